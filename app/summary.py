"""The summary table of the run that goes on, as a page of its own for other pages to embed."""

from snakemap.doors import page

page("summary")
