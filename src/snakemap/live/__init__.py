"""Runs followed once a process."""
