"""File formats: how a file is unpacked, checked by its first rows, and cut into rows."""
