"""From maps to the cells, colors and files that a screen or a client gets."""
