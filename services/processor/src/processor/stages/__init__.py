"""What happens to each event between input and ledger."""
