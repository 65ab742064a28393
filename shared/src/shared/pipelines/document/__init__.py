"""Reading pipeline files: TOML to a `Pipeline`, or what is wrong and in which line."""
