"""A simulated beamline: a real RunEngine, real devices and a real growing SWMR file, with a sample worth scanning.

Begin at :mod:`snakemap.simulator.beamline`; nothing is imported here, because Bluesky takes a second to import.
"""
