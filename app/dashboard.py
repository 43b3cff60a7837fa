"""The dashboard, as a page of ``panel serve``."""

from snakemap.doors import process, tab
from snakemap.views.dashboard import Dashboard

Dashboard(tab(), read_only=process().settings.read_only).servable(title="snakemap")
