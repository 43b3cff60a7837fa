"""All events, live and as far back as the store goes, as a page of its own or for other pages to embed."""

from snakemap.doors import page

page("log")
