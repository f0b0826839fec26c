"""Whatever is wrong with a variable: one line that names it, and no secret in it."""

import os
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from impact_in.settings import Settings, SettingsError, load, platforms_without_variables
from impact_in.settings.addresses import nearness
from impact_in.settings.loading import NEEDS
from impact_in.settings.platforms import PLATFORM_VARIABLES
from impact_in.settings.variables import Variables
from schemas.durations import format_duration

pytestmark = [pytest.mark.fast, pytest.mark.usefixtures("environment")]

COMPLETE = {
    "KAFKA_BOOTSTRAP_SERVERS": "kafka-1:9092, kafka-2:9092",
    "DATABASE_URL": "postgresql://impact:pg-geheim@db:5432/impact",
    "REDIS_URL": "redis://:redis-geheim@cache:6379/2",
    "BENEVITY_API_KEY": "benevity-geheim",
    "BENEVITY_WEBHOOK_URL": "https://api.benevity.example/v1/impact",
    "GOODERA_API_KEY": "goodera-geheim",
    "GOODERA_API_URL": "https://api.goodera.example/v1",
    "WORKDAY_CLIENT_ID": "workday-id-geheim",
    "WORKDAY_CLIENT_SECRET": "workday-geheim",
    "WORKDAY_TENANT_ID": "tenant_1",
    "WORKDAY_API_URL": "https://wd2.workday.example/ccx/service",
}
SECRET = "do-not-show-me"
EVERY_VARIABLE = sorted(
    {name.upper() for name in Variables.model_fields}
    | {f"IMPACT_IN_{name.upper()}_ENABLED" for name in PLATFORM_VARIABLES}
    | {model.variable(name) for model in PLATFORM_VARIABLES.values() for name in model.model_fields}
)


def loaded(*needs: str, without: str = "", **changed: str) -> Settings:
    environ = {name: value for name, value in (COMPLETE | changed).items() if name != without}
    return load(*needs, environ=environ)


def refusal(*needs: str, without: str = "", **changed: str) -> str:
    with pytest.raises(SettingsError) as refused:
        loaded(*needs, without=without, **changed)
    line = str(refused.value)
    assert "\n" not in line
    assert "geheim" not in line
    assert SECRET not in line
    return line


def test_nothing_is_needed_that_a_command_does_not_ask_for() -> None:
    settings = load(environ={})
    assert settings.database_url == ""
    assert list(settings.platforms) == ["benevity", "goodera", "workday"]
    assert settings.topics.metrics == "impact.metrics"
    assert [format_duration(delay) for delay in settings.retry.delays] == ["5s", "1m", "10m", "1h"]
    assert (settings.host, settings.port, settings.worker_port) == ("127.0.0.1", 3007, 3008)
    assert (settings.request_timeout, settings.lease, settings.session_timeout) == (30.0, 60.0, 30.0)
    assert (settings.drain_seconds, settings.retry.deadline) == (25.0, 86_400.0)


def test_all_of_a_complete_environment_is_there() -> None:
    settings = loaded(*NEEDS, BENEVITY_WEBHOOK_SECRET="one,two", IMPACT_IN_API_KEYS="k1, k2", LOG_LEVEL="warn")
    assert settings.kafka.servers() == ["kafka-1:9092", "kafka-2:9092"]
    assert settings.database_url == COMPLETE["DATABASE_URL"]
    assert [key.get_secret_value() for key in settings.api_keys] == ["k1", "k2"]
    assert [key.get_secret_value() for key in settings.platforms["benevity"].webhook_secrets] == ["one", "two"]
    assert settings.log_level == "warning"


@pytest.mark.parametrize("variable", sorted(COMPLETE))
def test_a_missing_variable_is_named_with_what_it_takes(variable: str) -> None:
    line = refusal("kafka", "database", "redis", "platforms", without=variable)
    assert line.startswith(f"{variable} is missing: it takes ")
    assert loaded(*NEEDS, **{variable: COMPLETE[variable]})


@pytest.mark.parametrize("variable", sorted(COMPLETE))
def test_an_empty_variable_is_a_missing_one(variable: str) -> None:
    line = refusal("kafka", "database", "redis", "platforms", **{variable: ""})
    assert line.startswith(f"{variable} is missing: it takes ")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka"),
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka:70000"),
        ("KAFKA_BOOTSTRAP_SERVERS", "a:1,kafka://b:2"),
        ("KAFKA_SECURITY_PROTOCOL", "TLS"),
        ("KAFKA_SASL_MECHANISM", "GSSAPI"),
        ("DATABASE_URL", f"mysql://u:{SECRET}@h/d"),
        ("DATABASE_URL", f"postgresql://u:{SECRET}@h:port/d"),
        ("DATABASE_URL", SECRET),
        ("REDIS_URL", f"http://:{SECRET}@h"),
        ("REDIS_URL", f"redis://:{SECRET}@h:1/first"),
        ("SCHEMA_REGISTRY_URL", f"registry/{SECRET}"),
        ("BENEVITY_API_KEY", f"{SECRET} \n"),
        ("BENEVITY_WEBHOOK_URL", f"https://u:{SECRET}@benevity.example"),
        ("BENEVITY_SIGNATURE_SECRET", "whsec_?"),
        ("BENEVITY_WEBHOOK_SECRET", f"good,whsec_{SECRET}?"),
        ("BENEVITY_MOCK_MODE", "perhaps"),
        ("IMPACT_IN_BENEVITY_ENABLED", "perhaps"),
        ("GOODERA_API_URL", "api.goodera.example"),
        ("WORKDAY_TOKEN_URL", "ftp://workday.example/token"),
        ("WORKDAY_CLIENT_SECRET", "\u00fc" + SECRET),
        ("WORKDAY_PROTOCOL", "carrier-pigeon"),
        ("PORT_IMPACT_IN", "65536"),
        ("IMPACT_IN_WORKER_PORT", "-1"),
        ("IMPACT_IN_HOST", "not a host"),
        ("IMPACT_IN_ENV", "staging"),
        ("IMPACT_IN_INSTANCE", "a b"),
        ("IMPACT_IN_SECRETS", "keychain"),
        ("IMPACT_IN_DEDUPE_DAYS", "0"),
        ("IMPACT_IN_RETRY_DELAYS", "5s,1x"),
        ("IMPACT_IN_RETRY_DELAYS", ","),
        ("IMPACT_IN_RETRY_DELAYS", "0s"),
        ("IMPACT_IN_DELIVERY_DEADLINE", "24"),
        ("IMPACT_IN_REQUEST_TIMEOUT", "soon"),
        ("IMPACT_IN_LEASE", "1 minute"),
        ("IMPACT_IN_SESSION_TIMEOUT", "0s"),
        ("IMPACT_IN_SESSION_TIMEOUT", "1d"),
        ("IMPACT_IN_DRAIN_SECONDS", "none"),
        ("IMPACT_IN_CONFIRM_WITHIN", "0d"),
        ("IMPACT_IN_ALLOW_PRIVATE_EGRESS", "maybe"),
        ("IMPACT_IN_TOPIC_PREFIX", "impact/"),
        ("IMPACT_IN_API_URL", "gateway:3007"),
        ("IMPACT_IN_MAX_CONNECTIONS", "many"),
        ("IMPACT_IN_WEBHOOK_RATE", "0"),
        ("LOG_LEVEL", "loud"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector"),
    ],
)
def test_a_malformed_variable_is_named_with_what_it_takes(variable: str, value: str) -> None:
    line = refusal("kafka", "database", "redis", "platforms", **{variable: value})
    assert line.startswith(f"{variable} cannot be used: it takes ")


def test_several_wrong_variables_are_all_named() -> None:
    line = refusal(LOG_LEVEL="loud", PORT_IMPACT_IN="x")
    assert line.startswith("PORT_IMPACT_IN cannot be used: it takes a port from 0 to 65535")
    assert "LOG_LEVEL" in line


@pytest.mark.parametrize("value", ["aws:impact-in/prod", "vault:secret/impact-in"])
def test_a_secret_store_comes_with_a_later_release(value: str) -> None:
    assert "comes with a later release" in refusal(IMPACT_IN_SECRETS=value)


def test_soap_comes_with_a_later_release() -> None:
    assert refusal("platforms", WORKDAY_PROTOCOL="soap").startswith("WORKDAY_PROTOCOL: soap comes with a later release")


def test_a_lease_must_outlive_a_request() -> None:
    line = refusal(IMPACT_IN_LEASE="20s", IMPACT_IN_REQUEST_TIMEOUT="20s")
    assert line == "IMPACT_IN_LEASE (20s) must be longer than IMPACT_IN_REQUEST_TIMEOUT (20s)"
    assert loaded(IMPACT_IN_LEASE="20001ms", IMPACT_IN_REQUEST_TIMEOUT="20s").lease == 20.001


@pytest.mark.parametrize("name", ["USERNAME", "PASSWORD"])
def test_sasl_needs_a_user_and_a_password(name: str) -> None:
    sasl = {"KAFKA_SECURITY_PROTOCOL": "sasl_ssl", "KAFKA_SASL_USERNAME": "u", "KAFKA_SASL_PASSWORD": SECRET}
    assert loaded("kafka", **sasl).kafka.security_protocol == "SASL_SSL"
    assert refusal("kafka", without=f"KAFKA_SASL_{name}", **sasl).startswith(f"KAFKA_SASL_{name} is missing")


def test_a_certificate_file_has_to_hold_certificates(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("no certificate")
    for path in ("nowhere.pem", str(tmp_path / "empty.pem")):
        line = refusal("kafka", KAFKA_SECURITY_PROTOCOL="SSL", KAFKA_SSL_CAFILE=path)
        assert line.startswith("KAFKA_SSL_CAFILE cannot be used")


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.5", "gateway.example", "::"])
def test_a_gateway_that_others_can_reach_needs_a_key(host: str) -> None:
    assert refusal("gateway", IMPACT_IN_HOST=host).startswith("IMPACT_IN_API_KEYS is missing")
    assert refusal("gateway", IMPACT_IN_HOST=host, IMPACT_IN_API_KEYS=" , ").startswith("IMPACT_IN_API_KEYS is missing")
    assert loaded("gateway", IMPACT_IN_HOST=host, IMPACT_IN_API_KEYS=SECRET).host == host
    assert loaded("worker", IMPACT_IN_HOST=host).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1"])
def test_a_gateway_on_loopback_needs_none(host: str) -> None:
    assert loaded("gateway", IMPACT_IN_HOST=host).api_keys == ()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8101", "127.1", "[::1]:80", "[::ffff:127.0.0.1]", "0.0.0.0"])
def test_in_production_no_platform_stands_on_loopback(host: str) -> None:
    url = f"http://{host}/impact"
    assert loaded("platforms", BENEVITY_WEBHOOK_URL=url)
    line = refusal("platforms", IMPACT_IN_ENV="production", BENEVITY_WEBHOOK_URL=url)
    assert line.startswith("BENEVITY_WEBHOOK_URL cannot be used")
    allowed = {"IMPACT_IN_ALLOW_PRIVATE_EGRESS": "true"}
    assert refusal("platforms", IMPACT_IN_ENV="production", BENEVITY_WEBHOOK_URL=url, **allowed)


def test_in_production_a_private_address_has_to_be_allowed() -> None:
    private = {"IMPACT_IN_ENV": "production", "WORKDAY_TOKEN_URL": "https://10.1.2.3/token"}
    assert refusal("platforms", **private).startswith("WORKDAY_TOKEN_URL cannot be used")
    assert loaded("platforms", **private, IMPACT_IN_ALLOW_PRIVATE_EGRESS="true")
    assert nearness("8.8.8.8") is None
    assert nearness("api.benevity.org") is None


def test_a_platform_that_is_off_or_mocked_needs_none_of_its_variables() -> None:
    settings = load(
        "platforms",
        environ={
            "BENEVITY_MOCK_MODE": "true",
            "BENEVITY_WEBHOOK_URL": "nonsense",
            "IMPACT_IN_GOODERA_ENABLED": "false",
            "IMPACT_IN_WORKDAY_ENABLED": "0",
        },
    )
    assert list(settings.platforms) == ["benevity"]
    assert settings.platforms["benevity"].mock_mode


def test_platforms_with_none_of_their_variables_can_be_told() -> None:
    assert platforms_without_variables({}) == ["benevity", "goodera", "workday"]
    given_some = {"BENEVITY_API_KEY": "x", "GOODERA_MOCK_MODE": "false", "WORKDAY_WEBHOOK_SECRET": "x"}
    assert platforms_without_variables(given_some) == ["workday"]


def test_a_file_of_variables_stands_below_the_environment(tmp_path: Path, environment: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("LOG_LEVEL=debug\nPORT_IMPACT_IN=4000\nSOMETHING_ELSE=1\nREDIS_URL=redis://a:1\n")
    environment.setenv("PORT_IMPACT_IN", "5000")
    settings = load("redis")
    assert (settings.log_level, settings.port, settings.redis_url) == ("debug", 5000, "redis://a:1")


def test_a_file_of_variables_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"LOG_LEVEL=\xff\xfe\n")
    assert refusal().startswith(".env cannot be read")


def test_node_env_is_not_read_and_draws_a_warning(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert load(environ={"NODE_ENV": "production"}).environment == "development"
    # On stdout before logs are configured, in the standard library's logging afterwards: another test may have done it.
    assert "node_env_is_not_read" in capsys.readouterr().out + caplog.text
    load(environ={"NODE_ENV": "production", "IMPACT_IN_ENV": "development"})
    assert "node_env_is_not_read" not in capsys.readouterr().out


def test_no_secret_stands_in_a_repr() -> None:
    shown = repr(
        loaded(
            *NEEDS,
            KAFKA_SECURITY_PROTOCOL="SASL_SSL",
            KAFKA_SASL_USERNAME="u",
            KAFKA_SASL_PASSWORD="sasl-geheim",
            IMPACT_IN_API_KEYS="key-geheim",
            BENEVITY_WEBHOOK_SECRET="hook-geheim",
            BENEVITY_SIGNATURE_SECRET="signature-geheim",
        )
    )
    assert "geheim" not in shown
    assert "benevity" in shown


@given(
    number=st.integers(1, 3650).map(str) | st.decimals("0.001", 3650, places=3).map(str),
    unit=st.sampled_from(["s", "m", "h", "d"]),
)
def test_every_duration_that_people_write_is_read(number: str, unit: str) -> None:
    read = load(environ={"IMPACT_IN_CONFIRM_WITHIN": number + unit}).confirm_within
    seconds = float(number) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]
    assert abs(read - timedelta(seconds=seconds)) <= timedelta(milliseconds=1)


@given(
    variable=st.sampled_from(EVERY_VARIABLE), text=st.text(min_size=1) | st.from_regex(r"\w+://[^ ]*", fullmatch=True)
)
@example(variable="DATABASE_URL", text="postgresql://[")
@example(variable="REDIS_URL", text="redis://h:99999999999")
@example(variable="IMPACT_IN_HOST", text="\udc80")
@example(variable="IMPACT_IN_DELIVERY_DEADLINE", text="999999999d")
@example(variable="WORKDAY_API_URL", text="https://[::1")
@example(variable="BENEVITY_WEBHOOK_SECRET", text="\udc80")
def test_whatever_a_variable_holds_it_is_used_or_named_in_one_line(variable: str, text: str) -> None:
    try:
        loaded(*(NEEDS - {"gateway"}), **{variable: text, "IMPACT_IN_ENV": "production"} | {variable: text})
    except SettingsError as refused:
        line = str(refused)
        assert variable in line
        assert len(line.splitlines()) == 1
        assert len(text) < 12 or text not in line


def test_the_environment_of_this_test_holds_none_of_the_variables() -> None:
    assert not set(EVERY_VARIABLE) & set(os.environ)
