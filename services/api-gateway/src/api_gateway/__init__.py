"""The HTTP API of EtlPay: ingest, queries, documents."""
