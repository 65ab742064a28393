"""What each road carries, beside its limit, in the same run: `make bench`."""
