"""Runs and events, followed once for each process."""
