"""How fast, and beside what: `python -m benchmarks.run`. Explained in docs/benchmarks.md."""
