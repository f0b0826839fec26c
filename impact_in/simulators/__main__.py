"""`python -m impact_in.simulators`: one process, one port a platform, one JSON line on stdout when they listen."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import uvloop
from aiohttp import web

from impact_in.simulators.assembly import BadReceipts, servers
from impact_in.simulators.options import Options, parse
from impact_in.simulators.receipt_file import ReceiptFile
from impact_in.simulators.server import PlatformServer

_log = logging.getLogger("simulators")
_PARENT_CHECKED_EVERY = 0.2


def main(arguments: Sequence[str] | None = None) -> int:
    """Ends with 0 after SIGTERM, SIGINT or the parent's death; 1 if it could not start or go on; 2 on usage."""
    parent = os.getppid()  # read first: whoever dies from here on is noticed
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    options = parse(sys.argv[1:] if arguments is None else arguments, os.environ)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(_run(options, parent))
        except BlockingIOError:
            _log.error("--receipts %s: another simulator writes to it", options.receipts)
        except (OSError, BadReceipts) as error:
            _log.error("%s", error)
        except KeyboardInterrupt:
            return 0
    return 1


class _Ending:
    """Asked to end by anybody; the first exit status given stays."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.status = 0

    def ask(self, status: int = 0) -> None:
        if not self.asked.is_set():
            self.status = status
            self.asked.set()


async def _run(options: Options, parent: int) -> int:
    ending = _Ending()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.ask)
    async with contextlib.AsyncExitStack() as stack:
        receipts = None
        if options.receipts is not None:
            receipts = ReceiptFile(options.receipts, on_loss=lambda: _lost(ending))
            await stack.enter_async_context(receipts)
        running = servers(options, receipts)
        runners: list[web.AppRunner] = []
        stack.push_async_callback(_close, runners)
        addresses = {server.platform.name: await _listen(server, options, runners) for server in running}
        senders = [asyncio.create_task(_send(server, ending)) for server in running]
        stack.push_async_callback(_cancel, senders)
        ready = {"ready": True, "pid": os.getpid(), "platforms": addresses}
        print(json.dumps(ready), flush=True)
        watcher = asyncio.create_task(_watch_parent(parent, ending))
        stack.push_async_callback(_cancel, [watcher])
        await ending.asked.wait()
    return ending.status


async def _listen(server: PlatformServer, options: Options, runners: list[web.AppRunner]) -> dict[str, Any]:
    runner = web.AppRunner(server.application(), access_log=None, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    runners.append(runner)
    name = server.platform.name
    await web.TCPSite(runner, options.host, options.ports[name]).start()
    port = runner.addresses[0][1]
    host = f"[{options.host}]" if ":" in options.host else options.host
    url = f"http://{host}:{port}"
    _log.info("%s listens on %s (faults: %s, seed %d)", name, url, options.faults, options.seed)
    return {"url": url, "env": server.platform.environment(url)}


async def _send(server: PlatformServer, ending: _Ending) -> None:
    try:
        await server.sender.run()
    except Exception:
        _log.exception("%s: webhooks stopped", server.platform.name)
        ending.ask(1)


async def _watch_parent(parent: int, ending: _Ending) -> None:
    """Asks, where PR_SET_PDEATHSIG would not do: that one fires when the parent's *thread* ends."""
    while os.getppid() == parent:  # noqa: ASYNC110 - nobody tells us, we can only ask
        await asyncio.sleep(_PARENT_CHECKED_EVERY)
    _log.info("the parent process is gone")
    ending.ask()


async def _close(runners: list[web.AppRunner]) -> None:
    """All at once: a held request costs its server twice the shutdown time-out, and we promise to end within one."""
    await asyncio.gather(*(runner.cleanup() for runner in runners))


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _lost(ending: _Ending) -> None:
    _log.error("a receipt could not be written: a witness without receipts is none")
    ending.ask(1)


if __name__ == "__main__":
    sys.exit(main())
