"""Environment and `.env` → `Settings`, or one line that says which variable is wrong."""

import ssl
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, cast

import structlog
from pydantic import SecretStr, ValidationError, create_model

from delivery.retry_schedule import schedule
from impact_in.settings import addresses, kinds, sources
from impact_in.settings.errors import SettingsError, missing, unusable
from impact_in.settings.platforms import PLATFORM_VARIABLES, PlatformSettings, PlatformVariables, checked_secret
from impact_in.settings.values import Settings
from impact_in.settings.variables import Variables
from schemas.durations import format_duration, parse_duration
from schemas.topics import Topics
from streams.connection import KafkaConnection, SaslMechanism, SecurityProtocol

NEEDS = frozenset({"kafka", "database", "redis", "platforms", "gateway", "worker"})

_SESSION = (parse_duration("1s"), parse_duration("30m"))
_log = structlog.get_logger("impact_in.settings")
_M = TypeVar("_M", bound=sources.Environment)

# IMPACT_IN_BENEVITY_ENABLED and its like: one field a platform.
_Enabled = create_model(
    "_Enabled",
    __base__=sources.Environment,
    **cast("Any", {f"impact_in_{platform}_enabled": (kinds.Flag, True) for platform in PLATFORM_VARIABLES}),
)


def load(*needs: str, environ: Mapping[str, str] | None = None) -> Settings:
    """Reads everything, checks everything that is set, and requires what these `needs` require.

    `needs`: any of `kafka`, `database`, `redis`, `platforms`, `gateway`, `worker`. `environ` stands for `os.environ`.
    Raises SettingsError.
    """
    if not set(needs) <= NEEDS:
        raise ValueError(f"needs are some of {sorted(NEEDS)}")
    with sources.reading(environ):
        return _load(frozenset(needs))


def _load(needs: frozenset[str]) -> Settings:
    variables = _read(Variables)
    _check_secrets_source(variables.impact_in_secrets)
    _check_times(variables)
    settings = Settings(
        kafka=_kafka(variables, required="kafka" in needs),
        topics=Topics(variables.impact_in_topic_prefix),
        database_url=_required(variables, "database_url", needed="database" in needs),
        redis_url=_required(variables, "redis_url", needed="redis" in needs),
        platforms=_platforms(variables, required="platforms" in needs),
        host=variables.impact_in_host,
        port=variables.port_impact_in,
        worker_port=variables.impact_in_worker_port,
        api_keys=_secrets(variables.impact_in_api_keys),
        max_connections=variables.impact_in_max_connections,
        webhook_rate=variables.impact_in_webhook_rate,
        environment=cast("Literal['development', 'production']", variables.impact_in_env),
        instance=variables.impact_in_instance,
        static_membership=variables.impact_in_static_membership,
        retry=schedule(variables.impact_in_retry_delays, variables.impact_in_delivery_deadline),
        request_timeout=variables.impact_in_request_timeout.total_seconds(),
        lease=variables.impact_in_lease.total_seconds(),
        session_timeout=variables.impact_in_session_timeout.total_seconds(),
        fetch_wait=variables.impact_in_fetch_wait.total_seconds(),
        drain_seconds=variables.impact_in_drain_seconds.total_seconds(),
        confirm_within=variables.impact_in_confirm_within,
        dedupe=variables.impact_in_dedupe_days * parse_duration("1d"),
        log_level=variables.log_level,
    )
    if "gateway" in needs and not addresses.listens_on_loopback(settings.host) and not settings.api_keys:
        raise SettingsError(
            "IMPACT_IN_API_KEYS is missing: it takes at least one key where IMPACT_IN_HOST is not a loopback address"
        )
    _warn(variables)
    return settings


def platforms_without_variables(environ: Mapping[str, str] | None = None) -> list[str]:
    """The enabled platforms of whose own variables none is set, mock mode neither (`impact-in up` mocks them)."""
    with sources.reading(environ):
        platforms = _platforms(_read(Variables), required=False)
    return [name for name, found in platforms.items() if not found.variables.model_fields_set - {"webhook_secret"}]


def _read(model: type[_M]) -> _M:
    try:
        return model()
    except ValidationError as error:
        names = list(dict.fromkeys(str(problem["loc"][0]) for problem in error.errors(include_input=False)))
        first, *others = (model.variable(name) for name in names)
        also = f" (and {', '.join(others)} cannot be used either)" if others else ""
        raise SettingsError(f"{unusable(first, _takes(model, names[0]))}{also}") from None
    except (UnicodeError, OSError) as error:
        raise SettingsError(
            f".env cannot be read ({type(error).__name__}): it takes lines of NAME=value, UTF-8"
        ) from None


def _takes(model: type[sources.Environment], name: str) -> str:
    info = model.model_fields[name]
    described: str | None = info.description
    if described is None:  # `Kind | None`: the words stand inside the union
        inside = getattr(info.annotation, "__args__", ())
        notes = [note for kind in inside for note in getattr(kind, "__metadata__", ())]
        described = next((text for note in notes if (text := getattr(note, "description", None))), None)
    return described or "UTF-8 text"


def _required(variables: Variables, name: str, *, needed: bool) -> str:
    value = cast("str | None", getattr(variables, name))
    if value is None and needed:
        raise missing(name.upper(), _takes(Variables, name))
    return value or ""


def _kafka(variables: Variables, *, required: bool) -> KafkaConnection:
    servers = _required(variables, "kafka_bootstrap_servers", needed=required)
    protocol = cast("SecurityProtocol", variables.kafka_security_protocol)
    password = variables.kafka_sasl_password
    if servers and protocol.startswith("SASL_"):
        for name, value in (("USERNAME", variables.kafka_sasl_username), ("PASSWORD", password)):
            if value is None:
                raise missing(f"KAFKA_SASL_{name}", f"the {name.lower()} that KAFKA_SECURITY_PROTOCOL={protocol} needs")
    if servers and variables.kafka_ssl_cafile and protocol.endswith("SSL"):
        try:
            ssl.create_default_context(cafile=variables.kafka_ssl_cafile)
        except (OSError, ValueError):
            raise unusable("KAFKA_SSL_CAFILE", "the path of a readable file of PEM certificates") from None
    return KafkaConnection(
        bootstrap_servers=servers,
        security_protocol=protocol,
        sasl_mechanism=cast("SaslMechanism", variables.kafka_sasl_mechanism),
        sasl_username=variables.kafka_sasl_username,
        sasl_password=None if password is None else password.get_secret_value(),
        ssl_cafile=variables.kafka_ssl_cafile,
    )


def _platforms(variables: Variables, *, required: bool) -> dict[str, PlatformSettings]:
    enabled = _read(_Enabled)
    found: dict[str, PlatformSettings] = {}
    for name, model in PLATFORM_VARIABLES.items():
        if not getattr(enabled, f"impact_in_{name}_enabled"):
            continue
        own = _read(model)
        secrets = _secrets(own.webhook_secret)
        for secret in secrets:
            checked_secret(own.variable("webhook_secret"), secret.get_secret_value())
        if required and not own.mock_mode:
            own.check()
            _check_egress(variables, own)
        found[name] = PlatformSettings(name, own.mock_mode, secrets, own)
    return found


def _check_egress(variables: Variables, platform: PlatformVariables) -> None:
    if variables.impact_in_env != "production":
        return
    for name, url in platform.addresses().items():
        near = addresses.nearness_of_url(url)
        if near == "loopback":
            raise unusable(platform.variable(name), "an address that is not on loopback where IMPACT_IN_ENV=production")
        if near == "private" and not variables.impact_in_allow_private_egress:
            raise unusable(
                platform.variable(name),
                "a public address where IMPACT_IN_ENV=production, unless IMPACT_IN_ALLOW_PRIVATE_EGRESS=true",
            )


def _check_secrets_source(text: str) -> None:
    if text == "env":
        return
    if text.startswith(("aws:", "vault:")):
        source = text.partition(":")[0]
        raise SettingsError(f"IMPACT_IN_SECRETS: {source}: comes with a later release; until then it takes env")
    raise unusable("IMPACT_IN_SECRETS", "env")


def _check_times(variables: Variables) -> None:
    lease, request = variables.impact_in_lease, variables.impact_in_request_timeout
    if lease <= request:
        raise SettingsError(
            f"IMPACT_IN_LEASE ({format_duration(lease)}) must be longer than "
            f"IMPACT_IN_REQUEST_TIMEOUT ({format_duration(request)})"
        )
    shortest, longest = _SESSION
    if not shortest <= variables.impact_in_session_timeout <= longest:
        raise unusable(
            "IMPACT_IN_SESSION_TIMEOUT", f"a duration from {format_duration(shortest)} to {format_duration(longest)}"
        )
    if variables.impact_in_fetch_wait >= variables.impact_in_session_timeout:
        raise SettingsError("IMPACT_IN_FETCH_WAIT must be shorter than IMPACT_IN_SESSION_TIMEOUT")


def _secrets(text: SecretStr | None) -> tuple[SecretStr, ...]:
    return () if text is None else tuple(SecretStr(member) for member in kinds.listed(text.get_secret_value()))


def _warn(variables: Variables) -> None:
    if variables.node_env is not None and "impact_in_env" not in variables.model_fields_set:
        _log.warning("settings.node_env_is_not_read", hint="set IMPACT_IN_ENV to development or production")
    if variables.impact_in_api_url is not None:
        _log.warning("settings.api_url_is_not_used_yet", hint="commands go to DATABASE_URL and Kafka themselves")
