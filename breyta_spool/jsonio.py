"""JSON as the spool's files hold it: readable with cat, bounded, and never trusted when it is read."""

from __future__ import annotations

import json
import math
from functools import lru_cache
from json.encoder import encode_basestring as _quote
from typing import Any

from breyta_spool.errors import InvalidInput

MAX_DEPTH = 200
"""How deep what users give may nest: deeper documents break other programs, and Python's own reader at about 1,000."""
RECORD_DEPTH = MAX_DEPTH + 8
"""How deep a record may nest that holds such values."""


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")


_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(", ", ": ")).encode
_encode_compact = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def parse(text: str | bytes, what: str, depth: int = MAX_DEPTH) -> Any:
    """Read one JSON document; ``what`` names it in the error.

    Raises InvalidInput when it is not JSON, not UTF-8, holds NaN or Infinity, or nests deeper than ``depth``.
    """
    if not text.strip():
        raise InvalidInput(f"{what} is empty, not JSON")
    try:
        decoded = text.decode() if isinstance(text, bytes) else text
        value = _decode(decoded)
        if decoded.count("[") + decoded.count("{") > depth:  # fewer brackets cannot nest deeper
            check_depth(value, what, depth)
    except json.JSONDecodeError as error:
        raise InvalidInput(
            f"{what} is not valid JSON: {error.msg.removesuffix(' at')} at line {error.lineno}, column {error.colno}"
        ) from None
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{what} is not UTF-8: byte {error.start} is {error.object[error.start]:#x}") from None
    except RecursionError:
        raise InvalidInput(f"{what} nests deeper than {depth} levels") from None
    except ValueError as error:
        raise InvalidInput(f"{what} is not valid JSON: {error}") from None
    return value


def parse_object(text: str | bytes, what: str, depth: int = MAX_DEPTH) -> dict[str, Any]:
    """Read one JSON document that must be an object. Raises InvalidInput."""
    value = parse(text, what, depth)
    if not isinstance(value, dict):
        raise InvalidInput(f"{what} must be a JSON object, not {kind_of(value)}")
    return value


def check_depth(value: Any, what: str, depth: int = MAX_DEPTH) -> None:
    """Raise InvalidInput when a value nests deeper than ``depth``. Costs one visit to each container."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(depth):
        if not level:
            return
        below: list[Any] = []
        for container in level:
            items = container.values() if isinstance(container, dict) else container
            below += [item for item in items if isinstance(item, dict | list)]
        level = below
    if level:
        raise InvalidInput(f"{what} nests deeper than {depth} levels")


def compact(value: Any, what: str = "the value") -> bytes:
    """One value on one line. Raises InvalidInput for what JSON cannot say (NaN, bytes, a cycle, half a character)."""
    try:
        return _encode_compact(value).encode()
    except UnicodeEncodeError:
        raise _half_a_character(what) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{what} cannot be written as JSON: {error}") from None


def record(fields: dict[str, Any], what: str = "the record") -> bytes:
    """An object with one field a line and each value on that line: good to read, to grep and to diff."""
    lines = [_key(name) + _line(value, what) for name, value in fields.items()]
    text = "{\n" + ",\n".join(lines) + "\n}\n" if lines else "{}\n"
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise _half_a_character(what) from None


def _half_a_character(what: str) -> InvalidInput:
    # RFC 7493 (I-JSON), 2.1: other readers refuse such text or replace it silently.
    return InvalidInput(f"{what} holds half of a surrogate pair, which is not a character and cannot be stored")


@lru_cache(maxsize=256)
def _key(name: str) -> str:
    return f"  {_quote(name)}: "


def _line(value: Any, what: str) -> str:
    # What records are mostly made of, without the detour through an encoder.
    kind = type(value)
    if kind is str:
        return _quote(value)
    if value is None:
        return "null"
    if kind is int:
        return str(value)
    if not value and kind is dict:
        return "{}"
    try:
        return _encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{what} cannot be written as JSON: {error}") from None


def kind_of(value: Any) -> str:
    """The JSON name of a value's type, for messages.

    >>> kind_of([1]), kind_of(None), kind_of(1.5)
    ('an array', 'null', 'a number')
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number" if math.isfinite(value) else "not a finite number"
    names: dict[type, str] = {str: "a string", list: "an array", dict: "an object"}
    return names.get(type(value), f"a value of type {type(value).__name__}")
