"""The file channel of EtlPay: a watched inbox, and files that are read in place."""
