"""Document sources and publishers: STOMP, JSON lines, recordings."""
