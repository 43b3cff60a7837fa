"""Maps as cells, colors and files for a screen or a client."""
