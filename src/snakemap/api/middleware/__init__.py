"""Middleware of the API."""
