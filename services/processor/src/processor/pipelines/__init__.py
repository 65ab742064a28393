"""The one-shot that plans and applies pipelines, and chooses which versions are active: `python -m processor.pipelines`."""
