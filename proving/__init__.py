"""The proof, run against the product from outside: witness, faults, checker. docs/guarantees.md has the results."""
