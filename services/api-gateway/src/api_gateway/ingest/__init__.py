"""How events come in: one endpoint a module."""
