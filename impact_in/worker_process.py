"""`python -m impact_in.worker_process NUMBER COUNT SOCKET [ROLE]…`: one process of a worker; `impact_in.processes`
starts it."""

import sys
from pathlib import Path

from impact_in.cli.ending import Status, explain
from impact_in.cli.start import prepare
from impact_in.worker import Place, run_worker


def main() -> int:
    number, count, socket, *wanted = sys.argv[1:]
    try:
        settings = prepare("kafka", "database", "redis", "platforms", "worker", quiet=False)
        place = Place(process=int(number), processes=int(count), address=Path(socket))
        return run_worker(settings, wanted, place=place)
    except Exception as error:
        if (explained := explain(error)) is None:
            raise
        status, line = explained
        print(f"impact-in: process {number}: {line}", file=sys.stderr)
        return Status(status)


if __name__ == "__main__":
    sys.exit(main())
