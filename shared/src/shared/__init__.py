"""What two or more EtlPay services share: contracts, models, messaging, batching, settings, runtime."""
