"""The proof, run against the product from outside: witness, publisher, faults, checker. docs/guarantees.md has results.

No part of the product: nothing in it imports this, and it is not in the wheel. `witness` and `publisher` share no code
with what they watch (import-linter holds both).

    python -m proving.run --events 5000 --companies 50 --faults some
"""
