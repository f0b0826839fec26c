"""Kinds of variables: how each is read, and the words for what it takes.

A reader gets stripped text and returns the value, or raises ValueError; what it says is not shown, since it may quote
the text, and the text may be a secret.
"""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr

from schemas.durations import EXPECTED, parse_duration

_BROKER = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})")
_TOPIC_PREFIX = re.compile(r"[A-Za-z0-9._-]{1,100}")
_INSTANCE = re.compile(r"[A-Za-z0-9._-]{1,100}")
_HOST = re.compile(r"[A-Za-z0-9._:-]{1,253}")
_LEVELS = {"warn": "warning", "fatal": "critical", "trace": "debug"}  # the Node service's names for them

LONGEST_DURATION = timedelta(days=3650)


def _text(value: Any) -> str:
    text = str(value)
    text.encode()  # a lone surrogate stands for a byte that is no UTF-8
    return text.strip()


def _reader(read: Callable[[str], Any]) -> BeforeValidator:
    # A default is checked like what somebody wrote, so that none of ours can be wrong; secrets stay wrapped.
    return BeforeValidator(lambda value: read(_text(value)) if isinstance(value, str) else value)


def listed(text: str) -> list[str]:
    """A comma-separated list without its blanks and empty members."""
    return [member.strip() for member in text.split(",") if member.strip()]


def _brokers(text: str) -> str:
    brokers = listed(text)
    ports = [match["port"] if (match := _BROKER.fullmatch(broker)) else "" for broker in brokers]
    if not brokers or not all(port and 0 < int(port) < 65536 for port in ports):
        raise ValueError
    return ",".join(brokers)


def address(*schemes: str) -> Callable[[str], str]:
    """A reader of addresses with one of these schemes and a host."""

    def read(text: str) -> str:
        parts = urlsplit(text)
        if parts.scheme not in schemes or not text.isprintable() or " " in text:
            raise ValueError
        if not parts.hostname or parts.port == 0:  # `port` raises on what is none
            raise ValueError
        return text

    return read


def _database(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("postgresql", "postgres") or not text.isprintable() or not (parts.netloc or parts.query):
        raise ValueError
    if "," not in parts.netloc:  # several hosts are no single port
        _ = parts.port
    return text


def _redis(text: str) -> str:
    database = urlsplit(address("redis", "rediss")(text)).path.strip("/")
    if database and not (database.isascii() and database.isdigit()):
        raise ValueError
    return text


def _matching(pattern: re.Pattern[str]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError
        return text

    return read


def _one_of(*words: str, upper: bool = False) -> Callable[[str], str]:
    def read(text: str) -> str:
        word = text.upper() if upper else text.lower()
        if word not in words:
            raise ValueError
        return word

    return read


def _duration(text: str) -> timedelta:
    duration = parse_duration(text)
    if not timedelta() < duration <= LONGEST_DURATION:
        raise ValueError
    return duration


def _durations(text: str) -> tuple[timedelta, ...]:
    durations = tuple(_duration(member) for member in listed(text))
    if not durations:
        raise ValueError
    return durations


def _seconds(text: str) -> timedelta:
    return _duration(text if text and text[-1].isalpha() else f"{text}s")


def _level(text: str) -> str:
    return _one_of("debug", "info", "warning", "error", "critical")(_LEVELS.get(text.lower(), text))


def _field(takes: str) -> Any:
    return Field(description=takes)


Brokers = Annotated[str, _reader(_brokers), _field("brokers as host:port, comma-separated")]
SecurityProtocolName = Annotated[
    str,
    _reader(_one_of("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL", upper=True)),
    _field("PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"),
]
SaslMechanismName = Annotated[
    str,
    _reader(_one_of("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", upper=True)),
    _field("PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"),
]
DatabaseUrl = Annotated[str, _reader(_database), _field("postgresql://user:password@host:port/database")]
RedisUrl = Annotated[str, _reader(_redis), _field("redis://host:port/number, or rediss:// for TLS")]
HttpUrl = Annotated[str, _reader(address("http", "https")), _field("an http or https address")]
Text = Annotated[str, _reader(str), _field("text")]
Secret = Annotated[SecretStr, _field("text")]
Flag = Annotated[bool, _reader(str), _field("true or false")]
Port = Annotated[int, _reader(str), Field(ge=0, le=65535, description="a port from 0 to 65535")]
Count = Annotated[int, _reader(str), Field(ge=1, le=10**9, description="a whole number from 1")]
Host = Annotated[str, _reader(_matching(_HOST)), _field("an address or name to listen on, such as 127.0.0.1")]
Environment = Annotated[str, _reader(_one_of("development", "production")), _field("development or production")]
Protocol = Annotated[str, _reader(_one_of("rest", "soap")), _field("rest or soap")]
Instance = Annotated[
    str, _reader(_matching(_INSTANCE)), _field("a name of up to 100 letters, digits, dots, dashes and underscores")
]
TopicPrefix = Annotated[
    str,
    _reader(_matching(_TOPIC_PREFIX)),
    _field("the beginning of topic names: up to 100 letters, digits, dots, dashes and underscores"),
]
Level = Annotated[str, _reader(_level), _field("debug, info, warning, error or critical")]
Duration = Annotated[timedelta, _reader(_duration), _field(EXPECTED)]
Durations = Annotated[
    tuple[timedelta, ...],
    _reader(_durations),
    _field(f"durations, comma-separated, such as 5s,1m,10m,1h; each {EXPECTED}"),
]
Seconds = Annotated[timedelta, _reader(_seconds), _field("seconds, such as 25")]
