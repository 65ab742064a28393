"""How stored events are read."""
