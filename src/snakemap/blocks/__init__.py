"""Block sums of frames, in files of their own that are mapped into memory."""
