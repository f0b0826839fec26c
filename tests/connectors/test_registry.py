"""The list of platforms, and that no settings or connector shows a secret."""

import pytest

from connectors.benevity import BenevitySettings
from connectors.contract import Connector
from connectors.goodera import GooderaConnector, GooderaSettings
from connectors.registry import PLATFORMS, REGISTRY
from connectors.workday import WorkdaySettings
from tests.connectors.platforms import API_KEY, CLIENT_ID, CLIENT_SECRET, SECRETS, SIGNATURE_SECRET

pytestmark = pytest.mark.fast

SETTINGS = {
    "benevity": BenevitySettings(API_KEY, f"https://host/{API_KEY}", signature_secret=SIGNATURE_SECRET),
    "goodera": GooderaSettings(API_KEY, f"https://host/{API_KEY}"),
    "workday": WorkdaySettings(CLIENT_ID, CLIENT_SECRET, "t", "https://host", token_url=f"https://h/{CLIENT_SECRET}"),
}


def test_the_three_are_listed() -> None:
    assert PLATFORMS == ("benevity", "goodera", "workday")


@pytest.mark.parametrize("name", PLATFORMS)
def test_each_is_built_from_its_settings_outside_a_loop(name: str) -> None:
    platform = REGISTRY[name]
    assert isinstance(SETTINGS[name], platform.settings)
    connector: Connector = platform.connector(SETTINGS[name])
    assert connector.name == name
    assert type(connector.webhook) is type(platform.webhook)
    assert connector.ordering == ("additive" if name == "goodera" else "keyed")
    assert connector.batch_size == (100 if name == "goodera" else 1)


@pytest.mark.parametrize("name", PLATFORMS)
def test_no_repr_shows_a_secret(name: str) -> None:
    connector = REGISTRY[name].connector(SETTINGS[name])
    text = f"{SETTINGS[name]!r} {SETTINGS[name]} {connector!r} {connector}"
    assert not any(secret in text for secret in SECRETS)


WRONG = [
    (lambda: REGISTRY["benevity"].connector(BenevitySettings("a\nb-PLANTED", "https://h")), "BENEVITY_API_KEY"),
    (lambda: REGISTRY["benevity"].connector(BenevitySettings("k", "h-PLANTED")), "BENEVITY_WEBHOOK_URL"),
    (lambda: REGISTRY["benevity"].connector(BenevitySettings("k", "https://h", "whsec_PLANTED!")), "secret"),
    (lambda: REGISTRY["goodera"].connector(GooderaSettings("é-PLANTED", "https://h")), "GOODERA_API_KEY"),
    (lambda: REGISTRY["goodera"].connector(GooderaSettings("k", "https://u:PLANTED@h")), "GOODERA_API_URL"),
    (lambda: REGISTRY["workday"].connector(WorkdaySettings("", "PLANTED", "t", "https://h")), "WORKDAY_CLIENT_ID"),
    (lambda: REGISTRY["workday"].connector(WorkdaySettings("c", "s", "", "https://h")), "WORKDAY_TENANT_ID"),
    (lambda: REGISTRY["workday"].connector(WorkdaySettings("c", "s", "t", "PLANTED")), "WORKDAY_API_URL"),
    (
        lambda: REGISTRY["workday"].connector(WorkdaySettings("c", "s", "t", "https://h", "PLANTED")),
        "WORKDAY_TOKEN_URL",
    ),
]


@pytest.mark.parametrize(("build", "named"), WRONG)
def test_settings_that_do_not_fit_are_named_and_not_quoted(build: object, named: str) -> None:
    with pytest.raises(ValueError, match=named) as raised:
        build()  # type: ignore[operator]
    assert "PLANTED" not in str(raised.value)


@pytest.mark.parametrize("size", [0, 101])
def test_a_batch_has_1_to_100_records(size: int) -> None:
    with pytest.raises(ValueError, match="batch_size"):
        GooderaConnector(GooderaSettings("k", "https://h", batch_size=size))
