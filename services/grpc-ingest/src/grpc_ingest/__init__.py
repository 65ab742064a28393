"""EtlPay over gRPC: `etlpay.EtlService`. It hands events over and reads or writes no database."""
