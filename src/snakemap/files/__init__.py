"""Files below the data root."""
