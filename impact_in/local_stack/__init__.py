"""Real servers from wheels, for the demo, for ``impact-in up`` and for tests: nothing needs to be installed.

``LocalStack`` runs all three; ``Broker``, ``Database`` and ``Cache`` run one alone. ``lifeline`` explains why
none of them can outlive us.
"""

from impact_in.local_stack.broker import Broker
from impact_in.local_stack.cache import Cache
from impact_in.local_stack.database import Database
from impact_in.local_stack.errors import LocalStackError
from impact_in.local_stack.server import Server
from impact_in.local_stack.stack import LocalStack, Servers
from impact_in.local_stack.state import down, running, write_env_file

__all__ = [
    "Broker",
    "Cache",
    "Database",
    "LocalStack",
    "LocalStackError",
    "Server",
    "Servers",
    "down",
    "running",
    "write_env_file",
]
