"""The dashboard of the run that goes on."""

from snakemap.doors import page

page("dashboard")
