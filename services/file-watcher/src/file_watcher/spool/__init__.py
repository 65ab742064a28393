"""The spool: four folders, and the files that move between them by lock and rename."""
