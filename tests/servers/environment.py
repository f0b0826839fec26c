"""The environment of a process of ours that a proof or a benchmark starts, wherever it runs."""

import os
from pathlib import Path

from impact_in.children import OWN_CONDITIONS, inherited_env

_ROOT = Path(__file__).parent.parent.parent


def checkout_env(*without_prefixes: str) -> dict[str, str]:
    """Ours, less what would set conditions of its own, and with this checkout on the path: children run elsewhere."""
    env = inherited_env(without_prefixes=(*OWN_CONDITIONS, *without_prefixes))
    return env | {"PYTHONPATH": os.pathsep.join([str(_ROOT), env.get("PYTHONPATH", "")]).rstrip(os.pathsep)}
