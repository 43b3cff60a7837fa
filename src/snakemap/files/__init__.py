"""Names below the data root."""
