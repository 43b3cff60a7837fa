"""Downloads and health beside the pages."""
