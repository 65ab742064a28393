"""What a reader opens in a browser."""
