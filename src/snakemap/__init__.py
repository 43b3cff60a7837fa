"""snakemap: live maps of a beamline scan, drawn from Bluesky documents."""

__version__ = "0.1.0"
