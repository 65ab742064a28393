"""The gRPC door: `etlpay.EtlService`. It hands events over and reads or writes no database."""
