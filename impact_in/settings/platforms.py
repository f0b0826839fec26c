"""Each platform's variables, and what its connector is made of.

They are read as they stand and checked only for a platform that is really called: one that is switched off or in mock
mode needs none of them. A fourth platform is one class and one line here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import urlsplit

from pydantic import SecretStr
from pydantic_settings import SettingsConfigDict

from connectors.signatures import secret_key
from impact_in.settings import kinds
from impact_in.settings.errors import SettingsError, missing, unusable
from impact_in.settings.sources import Environment

_ADDRESS = "an http or https address without user or password"
_HEADER = "printable ASCII text without spaces around it"


class PlatformVariables(Environment):
    """What all platforms have. Variables are named `{PLATFORM}_{FIELD}`."""

    required: ClassVar[Mapping[str, str]] = {}
    """Field → what it takes. Addresses are the fields that end in `_url`."""

    mock_mode: kinds.Flag = False
    webhook_secret: kinds.Secret | None = None

    def check(self) -> None:
        """Raises SettingsError naming the first variable that the connector lacks or cannot use."""
        for name, takes in self.required.items():
            if getattr(self, name) is None:
                raise missing(self.variable(name), takes)
        for name, takes in (dict.fromkeys(self.addresses(), _ADDRESS) | dict(self.required)).items():
            _checked(self.variable(name), takes, getattr(self, name), is_address=name.endswith("_url"))

    def addresses(self) -> dict[str, str]:
        """Field → address, of those that are set."""
        fields = [name for name in type(self).model_fields if name.endswith("_url")]
        return {name: value for name in fields if (value := getattr(self, name)) is not None}

    def connector_settings(self) -> dict[str, Any]:
        """Keyword arguments of the connector's settings. Call `check` first."""
        raise NotImplementedError


class BenevityVariables(PlatformVariables):
    model_config = SettingsConfigDict(env_prefix="BENEVITY_")

    required: ClassVar[Mapping[str, str]] = {
        "api_key": f"the API key from Benevity, {_HEADER}",
        "webhook_url": f"{_ADDRESS}, where we POST",
    }

    api_key: SecretStr | None = None
    webhook_url: str | None = None
    signature_secret: SecretStr | None = None

    def check(self) -> None:
        super().check()
        if self.signature_secret is not None:
            checked_secret(self.variable("signature_secret"), self.signature_secret.get_secret_value())

    def connector_settings(self) -> dict[str, Any]:
        return {
            "api_key": _text(self.api_key),
            "url": self.webhook_url,
            "signature_secret": None if self.signature_secret is None else _text(self.signature_secret),
        }


class GooderaVariables(PlatformVariables):
    model_config = SettingsConfigDict(env_prefix="GOODERA_")

    required: ClassVar[Mapping[str, str]] = {
        "api_key": f"the API key from Goodera, {_HEADER}",
        "api_url": f"{_ADDRESS}, the API's base",
    }

    api_key: SecretStr | None = None
    api_url: str | None = None

    def connector_settings(self) -> dict[str, Any]:
        return {"api_key": _text(self.api_key), "url": self.api_url}


class WorkdayVariables(PlatformVariables):
    model_config = SettingsConfigDict(env_prefix="WORKDAY_")

    required: ClassVar[Mapping[str, str]] = {
        "client_id": f"the OAuth client's id, {_HEADER}",
        "client_secret": f"the OAuth client's secret, {_HEADER}",
        "tenant_id": f"the tenant's name, {_HEADER}",
        "api_url": f"{_ADDRESS}, the API's base",
    }

    client_id: SecretStr | None = None
    client_secret: SecretStr | None = None
    tenant_id: str | None = None
    api_url: str | None = None
    token_url: str | None = None
    protocol: str = "rest"
    username: SecretStr | None = None
    password: SecretStr | None = None

    def check(self) -> None:
        if self.protocol.strip().lower() == "soap":
            raise SettingsError("WORKDAY_PROTOCOL: soap comes with a later release; it takes rest")
        if self.protocol.strip().lower() != "rest":
            raise unusable("WORKDAY_PROTOCOL", "rest")
        super().check()

    def connector_settings(self) -> dict[str, Any]:
        return {
            "client_id": _text(self.client_id),
            "client_secret": _text(self.client_secret),
            "tenant_id": self.tenant_id,
            "url": self.api_url,
            "token_url": self.token_url,
        }


PLATFORM_VARIABLES: Mapping[str, type[PlatformVariables]] = {
    "benevity": BenevityVariables,
    "goodera": GooderaVariables,
    "workday": WorkdayVariables,
}


@dataclass(frozen=True)
class PlatformSettings:
    """A platform that is enabled."""

    name: str
    mock_mode: bool
    webhook_secrets: tuple[SecretStr, ...] = field(repr=False)
    variables: PlatformVariables = field(repr=False)
    """Checked where the command asked for `platforms` and the platform is not mocked."""


def checked_secret(variable: str, text: str) -> None:
    """Raises SettingsError unless the text can be a signing key."""
    try:
        secret_key(text)
    except ValueError:
        raise unusable(variable, "UTF-8 text, or whsec_ followed by base64") from None


def _checked(variable: str, takes: str, value: SecretStr | str, *, is_address: bool) -> None:
    text = _text(value)
    try:
        if is_address:
            parts = urlsplit(kinds.address("http", "https")(text.strip()))
            fits = parts.username is None and parts.password is None
        else:
            fits = bool(text) and text.isascii() and text.isprintable() and text == text.strip()
    except ValueError:
        fits = False
    if not fits:
        raise unusable(variable, takes)


def _text(value: SecretStr | str | None) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return value or ""
