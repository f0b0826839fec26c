"""JSON that keeps every amount exact and refuses what two readers could understand differently."""

import json
from decimal import Decimal
from typing import Any, NoReturn


class NotJson(ValueError):
    """The bytes are not one JSON value that every reader understands alike."""


def loads(raw: bytes) -> Any:
    """The value in `raw`: integers as int, other numbers as Decimal. Raises NotJson, and nothing else."""
    try:
        return json.loads(
            raw.decode("utf-8"),
            parse_float=Decimal,
            parse_constant=_no_constant,
            object_pairs_hook=_unique_names,
        )
    except NotJson:
        raise
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise NotJson(f"not JSON: {type(error).__name__}") from None


def dumps(value: Any) -> bytes:
    """One line of ASCII; so a lone surrogate in a name can be written down like any other text."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def canonical(value: Any) -> bytes:
    """Sorted names, no blanks; decimals as strings of the digits that were written."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode("ascii")


def _no_constant(name: str) -> NoReturn:
    raise NotJson(f"{name} is not a JSON number")


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise NotJson("an object names a field twice")
    return found
