"""How a waiting channel hands events over: to the processor, or, when it is away, to RabbitMQ."""
