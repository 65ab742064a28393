"""Files as producers write them: how one is unpacked, checked by its first rows, and cut into rows."""
