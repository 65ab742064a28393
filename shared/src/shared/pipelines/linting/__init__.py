"""What the parts of a pipeline file mean together, and what is wrong with that."""
