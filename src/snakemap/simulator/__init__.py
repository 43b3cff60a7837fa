"""A simulated beamline: a real RunEngine, real ophyd-async devices and a growing SWMR file.

Start at :mod:`snakemap.simulator.beamline`; nothing is imported here, because importing Bluesky takes a second.
"""
