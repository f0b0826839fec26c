"""One simulated platform on one port: receives, decides, writes the receipt down, answers."""

import asyncio
from dataclasses import asdict
from hashlib import sha256
from typing import Any

from aiohttp import web

from impact_in.simulators import exact_json
from impact_in.simulators.contract import Platform, rfc3339
from impact_in.simulators.decision import Decider, Verdict
from impact_in.simulators.faults import SLOW_SECONDS
from impact_in.simulators.receipt_file import ReceiptFile, ReceiptsLost
from impact_in.simulators.received import Received, written
from impact_in.simulators.webhooks import WebhookSender

_LARGEST_BODY = 8 * 1024 * 1024
_HOLD_SECONDS = 120  # a time-out outlives every client's patience


class PlatformServer:
    def __init__(
        self,
        platform: Platform,
        received: Received,
        decider: Decider,
        sender: WebhookSender,
        *,
        receipts: ReceiptFile | None = None,
        latency: float = 0.0,
    ) -> None:
        self.platform, self.received, self.sender = platform, received, sender
        self._decider, self._receipts, self._latency = decider, receipts, latency

    def application(self) -> web.Application:
        app = web.Application(client_max_size=_LARGEST_BODY)
        for path in self.platform.submit_paths:
            app.router.add_post(path, self._submit)
        for method, path, handler in self.platform.extra_routes():
            app.router.add_route(method, path, self._behind_outages(handler))
        app.router.add_get("/health", self._health)
        app.router.add_get("/_health", self._health)
        app.router.add_get("/_received", self._show_received)
        app.router.add_get("/_received/requests", self._show_requests)
        app.router.add_get("/_faults", self._show_faults)
        app.router.add_post("/_faults", self._change_faults)
        app.router.add_route("*", "/{elsewhere:.*}", self._elsewhere)
        return app

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        key = request.headers.get("Idempotency-Key", "")
        history = self.received.history(key)
        attempt = (history.requests if history else 0) + 1
        verdict = self._decider.decide(request.path, request.headers, raw, attempt)
        body_hash = sha256(raw).hexdigest()
        if verdict.submission is not None and history and body_hash not in history.hashes:
            verdict.violation = "Idempotency-Key: came before with another body"
        return await self._conclude(request, verdict, key, attempt, body_hash)

    async def _elsewhere(self, request: web.Request) -> web.StreamResponse:
        """Nothing is here; if it was meant as a submission, it went astray."""
        raw = await request.read()
        known = request.path in self.platform.submit_paths
        verdict = Verdict(
            405 if known else 404,
            exact_json.dumps({"success": False, "error": "Nothing here"}),
            headers={"Allow": "POST"} if known else {},
            violation=f"{request.method} {request.path}: the platform has no such endpoint",
        )
        return await self._conclude(request, verdict, "", 0, sha256(raw).hexdigest())

    async def _conclude(
        self, request: web.Request, verdict: Verdict, key: str, attempt: int, body_hash: str
    ) -> web.StreamResponse:
        # No await up to here since the decision: what it saw is what the receipt changes.
        line = self.received.add(self._receipt(request.path, verdict, key, attempt, body_hash))
        if verdict.effect:
            assert verdict.submission is not None
            assert verdict.transaction is not None
            statuses = self.platform.statuses(
                verdict.submission, verdict.failed, verdict.transaction, rejected=verdict.rejected
            )
            self.sender.announce(verdict.transaction, statuses)
        if self._receipts is not None:
            try:
                await self._receipts.write(line)
            except ReceiptsLost:
                return self._no_answer(request)
        pause = self._latency + (SLOW_SECONDS if verdict.fault == "slow" else 0.0)
        if verdict.hold:
            await self._hold(request)
        elif pause:
            await asyncio.sleep(pause)
        if verdict.status == 0:
            return self._no_answer(request)
        return web.Response(
            status=verdict.status,
            body=verdict.body,
            content_type=verdict.content_type,
            headers=verdict.headers,
        )

    def _receipt(self, path: str, verdict: Verdict, key: str, attempt: int, body_hash: str) -> dict[str, Any]:
        receipt: dict[str, Any] = {
            "n": self.received.count + 1,
            "platform": self.platform.name,
            "at": rfc3339(),
            "path": path,
            "key": key,
            "organizationId": None,
            "bodySha256": body_hash,
            "effect": verdict.effect,
            "status": verdict.status,
            "fault": verdict.fault,
            "attempt": attempt,
            "amounts": [],
            "eventRefs": [],
            "transactionId": verdict.transaction,
        }
        if verdict.submission is not None:
            _describe(receipt, verdict)
        if verdict.effect:
            receipt["rejected"] = verdict.rejected
            receipt["answer"] = verdict.accepted.decode("ascii")
        if verdict.violation is not None:
            receipt["violation"] = verdict.violation
        return receipt

    async def _hold(self, request: web.Request) -> None:
        """Until the client goes away, or nobody can be waiting any more; the end of the simulator cancels it."""
        for _ in range(_HOLD_SECONDS):
            if request.transport is None:
                return
            await asyncio.sleep(1)

    @staticmethod
    def _no_answer(request: web.Request) -> web.Response:
        if request.transport is not None:
            request.transport.close()
        return web.Response()  # goes nowhere: the connection is closed

    def _behind_outages(self, handler: Any) -> Any:
        """Token endpoint and health share the platform's outages, not those of one organization."""

        async def answer(request: web.Request) -> web.StreamResponse:
            outage = self._decider.faults.outage_of_all()
            if outage is None or outage.kind in ("401", "403"):
                response: web.StreamResponse = await handler(request)
                return response
            if outage.kind == "timeout":
                await self._hold(request)
                return self._no_answer(request)
            headers = {} if outage.retry_after is None else {"Retry-After": str(outage.retry_after)}
            return web.json_response({"error": "unavailable"}, status=int(outage.kind), headers=headers)

        return answer

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "healthy", "platform": self.platform.name})

    async def _show_received(self, request: web.Request) -> web.Response:
        """`?keys=0` leaves the keys out, for those who only watch the sums."""
        found = self.received.summary(with_keys=request.query.get("keys") != "0")
        found["webhooks"] = asdict(self.sender.counts)
        found.update(self.platform.counters())
        return web.Response(body=exact_json.dumps(found), content_type="application/json")

    async def _show_requests(self, request: web.Request) -> web.Response:
        try:
            after, limit = int(request.query.get("after", "0")), int(request.query.get("limit", "1000"))
        except ValueError:
            after = limit = -1
        if after < 0 or not 1 <= limit <= 10_000:
            return web.json_response({"error": "after: 0 or more; limit: 1 to 10000"}, status=400)
        return web.Response(body=self.received.page(after, limit), content_type="application/json")

    async def _show_faults(self, request: web.Request) -> web.Response:
        return web.json_response(self._decider.faults.as_json())

    async def _change_faults(self, request: web.Request) -> web.Response:
        try:
            wish = exact_json.loads(await request.read())
            revoke = type(wish) is dict and wish.pop("revokeTokens", False) is True
            if wish or not revoke:
                self._decider.faults.change(wish)
        except ValueError as error:
            return web.json_response({"error": str(error)}, status=400)
        if revoke:
            self.platform.revoke_tokens()
        return web.json_response(self._decider.faults.as_json())


def _describe(receipt: dict[str, Any], verdict: Verdict) -> None:
    """Who and how much: without an effect, what was asked for; with one, what was taken."""
    assert verdict.submission is not None
    records = verdict.submission.records
    amounts = [[[name, written(amount)] for name, amount in record.amounts] for record in records]
    organizations = {record.organization for record in records}
    receipt["organizationId"] = records[0].organization if len(organizations) == 1 else None
    receipt["amounts"] = [pair for index, pairs in enumerate(amounts) if index not in verdict.failed for pair in pairs]
    receipt["eventRefs"] = [ref for record in records for ref in record.refs]
    activities = [activity for record in records for activity in record.activity_ids]
    if activities:
        receipt["activityIds"] = activities
    if verdict.submission.batch:
        receipt["records"] = [
            {
                "organizationId": record.organization,
                "refs": list(record.refs),
                "taken": verdict.effect and index not in verdict.failed,
                "amounts": pairs,
            }
            for index, (record, pairs) in enumerate(zip(records, amounts, strict=True))
        ]
