"""The three connectors against a scripted server, so that one suite can run on all."""

from connectors.benevity import BenevityConnector, BenevitySettings
from connectors.contract import Connector
from connectors.goodera import GooderaConnector, GooderaSettings
from connectors.workday import WorkdayConnector, WorkdaySettings
from tests.connectors.scripted_server import Server, answer

API_KEY = "PLANTED-api-key-4711"
CLIENT_ID = "PLANTED-client-id"
CLIENT_SECRET = "PLANTED secret/with+specials"
TOKEN = "PLANTED-token-0815"
SIGNATURE_SECRET = "PLANTED-signature-secret"
SECRETS = (API_KEY, CLIENT_ID, CLIENT_SECRET, TOKEN, SIGNATURE_SECRET)

REAL = ("benevity", "goodera", "workday")
PATHS = {
    "benevity": "/v1/impact",
    "goodera": "/v1/impact-data",
    "workday": "/ccx/service/volunteer-management/v1/activities",
}


def connect(name: str, url: str, *, timeout: float = 5.0) -> Connector:
    if name == "benevity":
        return BenevityConnector(BenevitySettings(API_KEY, f"{url}/v1/impact", request_timeout=timeout))
    if name == "goodera":
        return GooderaConnector(GooderaSettings(API_KEY, f"{url}/v1/", request_timeout=timeout))
    return WorkdayConnector(
        WorkdaySettings(CLIENT_ID, CLIENT_SECRET, "tenant_1", f"{url}/ccx/service", request_timeout=timeout)
    )


def platform_server() -> Server:
    """Accepts, and hands out the token; what a test scripts concerns the deliveries only."""
    server = Server()
    server.by_path["/oauth2/token"] = answer(200, {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600})
    return server


def deliveries(server: Server) -> list[object]:
    return [seen for seen in server.seen if seen.path != "/oauth2/token"]
