"""The formats of files: unpacking, looking at the first rows, cutting into rows."""
