"""Subcommands of ``snakemap``."""
