"""Takes messages from a foreign queue and publishes them as batches of events."""
