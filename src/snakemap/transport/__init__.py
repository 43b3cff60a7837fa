"""Document sources and publishers: STOMP and recordings."""
