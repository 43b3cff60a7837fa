"""A client of the API: runs and their maps as xarray, documents as they come. It needs no package of the servers."""

from snakemap.client.document_stream import StreamMessage
from snakemap.client.runs import Client, Run, connect

__all__ = ["Client", "Run", "StreamMessage", "connect"]
