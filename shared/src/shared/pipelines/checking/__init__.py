"""What must hold for a whole file: the checks over many rows, and what the columns hold."""
