"""A process that runs a stack until SIGTERM, as `impact-in up` does.

`python -m tests.local_stack.up DIRECTORY kafka,redis` prints one JSON line once the stack answers: the addresses
as environment variables.
"""

import asyncio
import json
import signal
import sys
from pathlib import Path

from impact_in.local_stack import LocalStack


async def main(data_dir: Path, only: frozenset[str]) -> None:
    asked_to_stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked_to_stop.set)
    async with LocalStack(data_dir, only=only, durable=False) as stack:
        print(json.dumps(stack.servers.as_env()), flush=True)
        await asked_to_stop.wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), frozenset(sys.argv[2].split(","))))
