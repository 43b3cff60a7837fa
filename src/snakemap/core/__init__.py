"""What a run is: documents, geometry, maps. Pure."""
