"""How to reach the brokers: one value, turned into what aiokafka and Faust each want."""

import ssl
from typing import Any, Literal

import faust
import msgspec
from yarl import URL

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


class KafkaConnection(msgspec.Struct, frozen=True, kw_only=True):
    """The contract's `KAFKA_…` variables. Its repr shows no password."""

    bootstrap_servers: str
    security_protocol: SecurityProtocol = "PLAINTEXT"
    sasl_mechanism: SaslMechanism = "PLAIN"
    sasl_username: str | None = None
    sasl_password: str | None = None
    ssl_cafile: str | None = None

    def __repr__(self) -> str:
        return f"KafkaConnection({self.bootstrap_servers!r}, {self.security_protocol})"

    def for_aiokafka(self) -> dict[str, Any]:
        """Keyword arguments of every aiokafka client."""
        arguments: dict[str, Any] = {
            "bootstrap_servers": self.servers(),
            "security_protocol": self.security_protocol,
        }
        if self._uses_tls:
            arguments["ssl_context"] = ssl.create_default_context(cafile=self.ssl_cafile)
        if self._uses_sasl:
            arguments |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self.sasl_password,
            }
        return arguments

    def for_faust(self) -> dict[str, Any]:
        """Keyword arguments of `faust.App`."""
        arguments: dict[str, Any] = {"broker": [URL(f"kafka://{server}") for server in self.servers()]}
        context = ssl.create_default_context(cafile=self.ssl_cafile) if self._uses_tls else None
        if self._uses_sasl:
            arguments["broker_credentials"] = faust.SASLCredentials(
                mechanism=self.sasl_mechanism,
                username=self.sasl_username,
                password=self.sasl_password,
                ssl_context=context,
            )
        elif context is not None:
            arguments["broker_credentials"] = faust.SSLCredentials(context)
        return arguments

    def servers(self) -> list[str]:
        return [server.strip() for server in self.bootstrap_servers.split(",") if server.strip()]

    @property
    def _uses_tls(self) -> bool:
        return self.security_protocol in ("SSL", "SASL_SSL")

    @property
    def _uses_sasl(self) -> bool:
        return self.security_protocol in ("SASL_PLAINTEXT", "SASL_SSL")
