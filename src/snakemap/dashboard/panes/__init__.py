"""Panes of the dashboard, a module for each."""
