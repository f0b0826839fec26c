"""The road: Faust agents, the retry waiter, the producer. Thin: what happens to a record is decided in `delivery`."""
