"""Synthetic scans: sample, frames and documents from a seed; pure, for the simulator and the API."""
