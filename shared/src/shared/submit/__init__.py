"""How events reach the processor where a client waits: by gRPC, or over RabbitMQ while it is away."""
