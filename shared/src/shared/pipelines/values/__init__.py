"""Values: money, times, codes, masks, and how they are written."""
