"""The one-shot that plans and applies pipelines, and chooses the active versions: `python -m processor.pipelines`."""
