"""The pipelines: which versions are active, and the one-shot that plans and applies them."""
