"""The process that reads HDF5."""
