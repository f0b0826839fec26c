"""Who gets in, and what a stranger is told (contract section 4)."""

import hmac
import time

import pytest

from impact_in.simulators.workday import Workday
from tests.simulators import bodies
from tests.simulators.conftest import Simulated, Start

pytestmark = pytest.mark.fast


@pytest.mark.parametrize("given", [None, "simulated-benevity-key", "Bearer wrong", "Basic x", "Bearer \xff"])
async def test_benevity_turns_away_whoever_lacks_its_bearer_key(benevity: Simulated, given: str | None) -> None:
    answer = await benevity.post(bodies.BENEVITY, bodies.benevity(), Authorization=given)
    assert answer.status == 401
    assert (answer.json["success"], answer.json["errorCode"]) == (False, "AUTH_INVALID")
    assert (await benevity.received())["effects"] == 0


@pytest.mark.parametrize("given", [None, "wrong", ""])
async def test_goodera_turns_away_whoever_lacks_its_api_key(goodera: Simulated, given: str | None) -> None:
    answer = await goodera.post(bodies.GOODERA, bodies.goodera(), X_API_Key=given)
    assert (answer.status, answer.json["errorCode"]) == (401, "AUTH_INVALID")


async def test_workday_wants_a_token_and_the_right_tenant(workday: Simulated) -> None:
    accepted = await workday.post(bodies.WORKDAY, bodies.workday())
    assert accepted.status == 200
    assert (accepted.json["activitiesProcessed"], accepted.json["enrollmentsProcessed"]) == (1, 1)
    for tenant in (None, "another"):
        answer = await workday.post(bodies.WORKDAY, bodies.workday(), X_Workday_Tenant=tenant)
        assert (answer.status, answer.json["errorCode"]) == (403, "TENANT_INVALID")
    answer = await workday.post(bodies.WORKDAY, bodies.workday(), Authorization="Bearer made-up")
    assert (answer.status, answer.json["errorCode"]) == (401, "AUTH_INVALID")


async def test_workdays_token_endpoint_speaks_oauth(workday: Simulated) -> None:
    answer = await workday.sign_in()
    assert (answer.json["token_type"], answer.json["expires_in"]) == ("Bearer", 3600)
    assert answer.headers["Cache-Control"] == "no-store"
    wrong = {
        "client_secret": ("wrong", 401, "invalid_client"),
        "client_id": ("wrong", 401, "invalid_client"),
        "grant_type": ("password", 400, "unsupported_grant_type"),
        "scope": ("everything", 400, "invalid_scope"),
    }
    for name, (value, status, error) in wrong.items():
        answer = await workday.sign_in(**{name: value})
        assert (answer.status, answer.json) == (status, {"error": error}), name
    assert (await workday.request("POST", "/oauth2/token", json={})).json == {"error": "invalid_request"}


async def test_a_revoked_token_is_worthless_and_a_new_one_is_not(workday: Simulated) -> None:
    await workday.faults(revokeTokens=True)
    assert (await workday.post(bodies.WORKDAY, bodies.workday())).status == 401
    await workday.sign_in()
    assert (await workday.post(bodies.WORKDAY, bodies.workday())).status == 200
    assert (await workday.received())["tokensIssued"] == 2


async def test_a_token_ends_with_its_lifetime() -> None:
    now = 0.0
    platform = Workday(token_lifetime=60, clock=lambda: now)
    platform._tokens["token"] = 60.0
    headers = bodies.headers("workday", token="token")
    assert platform.authenticate(headers, b"") is None
    now = 60.0
    refusal = platform.authenticate(headers, b"")
    assert refusal is not None
    assert refusal.status == 401


async def test_a_body_signature_is_asked_for_once_a_secret_is_set(start: Start) -> None:
    simulated = (await start("--platform", "benevity", "--benevity-signature-secret", "s3cret"))["benevity"]
    raw = b'{"not": "looked at before the signature"}'

    def signed(data: bytes) -> str:
        return hmac.new(b"s3cret", data, "sha256").hexdigest()

    now = int(time.time())
    for wrong in (None, "", "sha256=00", f"t={now},v1=00", f"t={now - 400},v1={signed(b'x')}", "t=nan,v1=1"):
        assert (await simulated.post(bodies.BENEVITY, raw, X_Benevity_Signature=wrong)).status == 401
    right = (f"sha256={signed(raw)}", f"t={now},v1={signed(f'{now}.'.encode() + raw)}")
    for signature in right:
        assert (await simulated.post(bodies.BENEVITY, raw, X_Benevity_Signature=signature)).status == 400
