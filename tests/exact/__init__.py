"""Many events of the shipped examples, whose sums are known beforehand, and what the typed tables hold of them."""
