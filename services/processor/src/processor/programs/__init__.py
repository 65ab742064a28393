"""The versions of pipelines that run: loaded from the ledger, compiled, found by the source of an event."""
