"""The words of EtlPay as types: pure, without transport, framework or driver."""
