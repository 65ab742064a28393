"""The `etlpay` command: the stack on this machine, its status, and the live demo."""
