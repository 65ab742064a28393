"""Pipeline files that are proposed for events."""
