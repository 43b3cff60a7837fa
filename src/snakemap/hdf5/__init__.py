"""HDF5, read by another process."""
