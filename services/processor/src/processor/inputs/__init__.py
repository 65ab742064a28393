"""Where events come in: gRPC calls and RabbitMQ queues."""
