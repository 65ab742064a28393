"""Callers of HTTP and gRPC and producers of queues: their keys, rights, sources and rates."""
