"""In-memory fakes of what the services talk to, held to the same behaviour suite as the real thing."""
