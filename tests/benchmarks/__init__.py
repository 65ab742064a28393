"""What each case carries, beside its limit, in the same run: `make bench`."""
