"""A client of the API: runs and their maps as xarray, documents as they come. It needs no package of the servers."""

from snakemap.client.runs import Client, Run, connect
from snakemap.client.streams import Told

__all__ = ["Client", "Run", "Told", "connect"]
