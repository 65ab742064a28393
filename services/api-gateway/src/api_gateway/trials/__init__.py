"""What an event would become by a pipeline file, tried in a process of its own."""
