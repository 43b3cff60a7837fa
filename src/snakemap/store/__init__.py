"""The one Redis stream, with what is indexed from it."""
