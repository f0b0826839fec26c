# ruff: noqa: PLC0415 - a command that went well need not wait for the imports of all that could have gone wrong
"""How a command ends: exit statuses, and one line for every failure that can be foreseen."""

from enum import IntEnum


class Status(IntEnum):
    """The contract's exit statuses (section 9), and the shell's own for Ctrl-C."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    INTERRUPTED = 130


class UsageError(Exception):
    """What was asked for cannot be done, whatever the servers say. One line."""


def explain(error: Exception) -> tuple[Status, str] | None:
    """Exit status and one line, or None for what nobody foresaw: that deserves its traceback."""
    import asyncpg
    import redis.exceptions
    from aiokafka.errors import KafkaError

    from delivery.ports import PublishFailed
    from delivery_log.contract import LedgerUnavailable
    from delivery_log.postgres.migrations import MigrationError
    from impact_in.errors import StartError
    from impact_in.local_stack.errors import LocalStackError
    from impact_in.operations.topics import KafkaUnavailable
    from impact_in.settings.errors import SettingsError

    match error:
        case UsageError() | SettingsError():
            return Status.USAGE, str(error)
        case StartError() | MigrationError():
            return Status.FAILED, str(error)
        case LedgerUnavailable():
            return Status.UNREACHABLE, f"DATABASE_URL: {error}"
        case PublishFailed():
            return Status.UNREACHABLE, f"KAFKA_BOOTSTRAP_SERVERS: {error}"
        case KafkaUnavailable() | LocalStackError():
            return Status.UNREACHABLE, str(error)
        case KafkaError():
            return Status.UNREACHABLE, f"KAFKA_BOOTSTRAP_SERVERS: the broker failed ({type(error).__name__})"
        case redis.exceptions.RedisError():
            return Status.UNREACHABLE, f"REDIS_URL: Redis failed ({type(error).__name__})"
        case asyncpg.PostgresError():
            # Not its message: it may quote a row.
            return Status.FAILED, f"DATABASE_URL: Postgres refuses ({type(error).__name__}, SQLSTATE {error.sqlstate})"
    return None
