"""What must be quick and shared between workers. Nothing here is the truth: the ledger is."""
