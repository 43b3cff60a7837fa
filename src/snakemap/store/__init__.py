"""The Redis stream of documents, and indexes derived from it."""
