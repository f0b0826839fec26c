"""Where variables are read: the environment, and below it `.env` in the directory that the command runs in."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

_environ: ContextVar[Mapping[str, str]] = ContextVar("environ")


@contextmanager
def reading(environ: Mapping[str, str] | None) -> Iterator[None]:
    """Within it, models read this mapping instead of `os.environ`; `.env` stays below it."""
    token = _environ.set(os.environ if environ is None else environ)
    try:
        yield
    finally:
        _environ.reset(token)


class Environment(BaseSettings):
    """What is read from the environment: fields are named as variables, in lower case, without `env_prefix`."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,  # `NAME=` in a compose file means: not set
        extra="ignore",
        hide_input_in_errors=True,
        frozen=True,
    )

    @classmethod
    def variable(cls, name: str) -> str:
        """A field's variable."""
        return f"{cls.model_config.get('env_prefix', '')}{name}".upper()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (_FromMapping(settings_cls), dotenv_settings)


class _FromMapping(EnvSettingsSource):
    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in _environ.get(os.environ).items() if value}
