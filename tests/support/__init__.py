"""What tests need to stand on: servers, stacks, events."""
