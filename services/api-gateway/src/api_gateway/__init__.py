"""The HTTP door of EtlPay: ingest, queries, docs."""
