"""Pipelines: a file declares what an event is, what must hold, and which typed rows it becomes. Pure."""
