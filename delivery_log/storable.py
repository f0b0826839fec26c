"""What a jsonb column can hold: everyone who takes JSON from outside asks here before the database refuses it.

PostgreSQL's jsonb knows no NUL and no lone surrogate in text, no NaN, no number beyond `numeric`, and nesting only as
deep as its stack. The bounds here are narrower than its own, so that what passes can be stored on any server.
"""

import json
from typing import Any

MAX_DEPTH = 32
_MAX_NUMBER_LENGTH = 1_000
_MAX_EXPONENT = 1_000
_SURROGATES = ("\ud800", "\udfff")


class _Pairs(tuple[tuple[str, Any], ...]):
    """An object as its pairs: a key that comes twice must not hide its first value."""

    __slots__ = ()


def check_storable(text: str) -> None:
    """Raises ValueError, which quotes nothing of the text, where it is no JSON or none that jsonb can hold."""
    try:
        tree = json.loads(
            text, object_pairs_hook=_Pairs, parse_int=_number, parse_float=_number, parse_constant=_constant
        )
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None
    except json.JSONDecodeError:
        raise ValueError("no valid JSON") from None
    _walk(tree)


def check_text(text: str) -> None:
    """Raises ValueError where a text column cannot hold it."""
    if "\0" in text:
        raise ValueError("a text with the character U+0000")
    if not text.isascii() and any(_SURROGATES[0] <= character <= _SURROGATES[1] for character in text):
        raise ValueError("a text with a lone surrogate")


def _walk(tree: Any) -> None:
    level = [tree]
    depth = 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError("JSON nested too deeply")
        below: list[Any] = []
        for node in level:
            if isinstance(node, str):
                check_text(node)
            elif isinstance(node, _Pairs):
                for key, value in node:
                    check_text(key)
                    below.append(value)
            elif isinstance(node, list):
                below.extend(node)
        level = below


def _number(token: str) -> None:
    if len(token) > _MAX_NUMBER_LENGTH:
        raise ValueError("a number with too many digits")
    _, _, exponent = token.lower().partition("e")
    if exponent and (len(exponent) > 6 or abs(int(exponent)) > _MAX_EXPONENT):
        raise ValueError("a number with too large an exponent")


def _constant(_: str) -> None:
    raise ValueError("NaN and infinity are no JSON")
