"""RabbitMQ, and the only place of `shared` that knows its client library."""
