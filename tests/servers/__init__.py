"""Servers for the tests, and what tests need around them.

The fixtures are in tests/conftest.py; they start a server only when a test asks for it, one of each for a test
process (with pytest-xdist: for each worker).
"""

from tests.servers.waiting import eventually

__all__ = ["eventually"]
