"""The product's own command line, with another batch size for Goodera: `python -m benchmarks.sized_worker 1 worker …`.
No variable of the product's sets it."""

import sys
from collections.abc import Callable, MutableMapping
from dataclasses import replace
from typing import Any, cast

from connectors.contract import Connector
from connectors.registry import REGISTRY, Platform
from impact_in.cli import run


def main(arguments: list[str]) -> int:
    size, *command = arguments
    goodera = REGISTRY["goodera"]
    sized = goodera._replace(connector=_sized(goodera.connector, int(size)))
    cast("MutableMapping[str, Platform]", REGISTRY)["goodera"] = sized
    return run(command)


def _sized(connector: Callable[..., Connector], size: int) -> Callable[[Any], Connector]:
    return lambda settings: connector(replace(settings, batch_size=size))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
