"""Client of the API: runs and their maps as xarray, and live documents. It imports no server package."""

from snakemap.client.document_stream import StreamMessage
from snakemap.client.runs import Client, Run, connect

__all__ = ["Client", "Run", "StreamMessage", "connect"]
