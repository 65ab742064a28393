"""Tests that stand beside a pipeline file, run without a database."""
