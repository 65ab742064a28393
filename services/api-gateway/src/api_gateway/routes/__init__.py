"""The doors of the gateway, one module each."""
