"""The commands of `etlpay`, one module each with its arguments."""
