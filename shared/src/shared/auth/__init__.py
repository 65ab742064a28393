"""Who may come in over HTTP and gRPC, what they may do there, for which sources, and how fast."""
