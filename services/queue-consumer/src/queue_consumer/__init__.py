"""The queue door: takes messages from a foreign queue and publishes them as batches of events."""
