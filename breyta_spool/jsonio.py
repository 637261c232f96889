"""JSON as the spool's files hold it: readable with cat, bounded, and never trusted when it is read."""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Callable, Iterator
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


def _finite(text: str) -> float:
    value = float(text)
    if value - value != 0:
        raise ValueError(f"{text[:20]} is too large for a number")
    return value


_decoder = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)
_decode = _decoder.decode
_SPACE = re.compile(r"[ \t\n\r\ufeff]+")
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(", ", ": ")).encode
_encode_compact = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def parse(text: str | bytes, what: str, depth: int = MAX_DEPTH) -> Any:
    """Read one JSON document; ``what`` names it in the error.

    Raises InvalidInput when it is not JSON, not UTF-8, holds NaN or Infinity, or nests deeper than ``depth``.
    """
    try:
        decoded = text.decode() if isinstance(text, bytes) else text
        value = _decode(decoded)
        if decoded.count("[") + decoded.count("{") > depth:  # fewer brackets cannot nest deeper
            check_depth(value, what, depth)
    except json.JSONDecodeError as error:
        if not text.strip():
            raise InvalidInput(f"{what} is empty, not JSON") from None
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


STREAM_CHUNK = 1 << 20
ITEM_LIMIT = 64 << 20
"""The most characters of one value of a stream."""


def stream(read: Callable[[int], bytes], what: str) -> Iterator[Any]:
    """The values of a JSON array, or of JSON lines, one after the other, however many there are.

    ``read`` gives the next bytes, at most as many as asked for. In memory is one value and about a megabyte. Raises
    InvalidInput that names the value by its number, from 1.
    """
    text = _Text(read, what)
    try:
        if text.peek() == "[":
            yield from _array(text)
        else:
            yield from _lines_of(text)
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{what} is not UTF-8: {error.reason} after value {text.number}") from None


class _Text:
    """The part of a text that was read and not yet used."""

    def __init__(self, read: Callable[[int], bytes], what: str) -> None:
        self._read = read
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self.what = what
        self.buffer = ""
        self.at = 0
        self.number = 0
        self.ended = False

    def more(self) -> None:
        """Read on; twice as much for a value that is long, so that starting again costs no more than reading it."""
        kept = len(self.buffer) - self.at
        if kept > ITEM_LIMIT:
            raise self.wrong(f"is longer than {ITEM_LIMIT} characters")
        data = self._read(max(STREAM_CHUNK, kept))
        self.ended = not data
        self.buffer = self.buffer[self.at :] + self._decode(data, final=self.ended)
        self.at = 0

    def peek(self) -> str:
        """The next character that is not white space, empty at the end."""
        while True:
            if space := _SPACE.match(self.buffer, self.at):
                self.at = space.end()
            if self.at < len(self.buffer) or self.ended:
                return self.buffer[self.at : self.at + 1]
            self.more()

    def wrong(self, why: str) -> InvalidInput:
        """The error for the value that is being read."""
        return InvalidInput(f"{self.what}, value {self.number}: {why}", value=self.number)


def _array(text: _Text) -> Iterator[Any]:
    text.at += 1
    sign = text.peek()
    while sign != "]" or text.number:
        text.number += 1
        text.peek()
        yield _next_value(text)
        sign = text.peek()
        if sign == "]":
            break
        if sign != ",":
            found = repr(sign) if sign else "the end; is the file whole?"
            raise text.wrong(f"is followed by {found}, where ',' or ']' was expected")
        text.at += 1
    text.at += 1
    if text.peek():
        raise InvalidInput(f"{text.what} goes on after the end of its array")


def _next_value(text: _Text) -> Any:
    while True:
        try:
            value, end = _decoder.raw_decode(text.buffer, text.at)
        except json.JSONDecodeError as error:
            # What is cut off at the end of the buffer may be whole with the next bytes; an error before that is one.
            cut = error.msg.startswith("Unterminated string") or error.pos >= len(text.buffer) - 16
            if text.ended or not cut:
                raise text.wrong(f"not valid JSON: {error.msg.removesuffix(' at')}") from None
        except RecursionError:
            raise text.wrong(f"nests deeper than {MAX_DEPTH} levels") from None
        except ValueError as error:
            raise text.wrong(f"not valid JSON: {error}") from None
        else:
            if end + 2 < len(text.buffer) or text.ended:  # else it may be the first half of a number, as 1e+
                if text.buffer.count("[", text.at, end) + text.buffer.count("{", text.at, end) > MAX_DEPTH:
                    check_depth(value, f"{text.what}, value {text.number}")
                text.at = end
                return value
        text.more()


def _lines_of(text: _Text) -> Iterator[Any]:
    while text.peek():
        text.number += 1
        while (end := text.buffer.find("\n", text.at)) < 0 and not text.ended:
            text.more()
        end = end if end >= 0 else len(text.buffer)
        line, text.at = text.buffer[text.at : end], end
        yield parse(line, f"{text.what}, value {text.number}")


_CONTAINERS = (dict, list, tuple)


def check_depth_of(data: bytes, value: Any, what: str) -> None:
    """The same as ``check_depth`` for a value and its JSON: with few brackets in that it cannot nest deep."""
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH:
        check_depth(value, what)


def check_depth(value: Any, what: str, depth: int = MAX_DEPTH) -> None:
    """Raise InvalidInput when a value nests deeper than ``depth``. Costs one visit to each container."""
    level = [value] if isinstance(value, _CONTAINERS) else []
    for _ in range(depth):
        if not level:
            return
        below: list[Any] = []
        for container in level:
            items = container.values() if isinstance(container, dict) else container
            below += [item for item in items if isinstance(item, _CONTAINERS)]
        level = below
    if level:
        raise InvalidInput(f"{what} nests deeper than {depth} levels")


def compact(value: Any, what: str = "the value") -> bytes:
    """One value on one line. Raises InvalidInput for what JSON cannot say (NaN, bytes, a cycle, half a character)."""
    try:
        return _encode_compact(value).encode()
    except UnicodeEncodeError:
        raise half_a_character(what) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{what} cannot be written as JSON: {error}") from None


def record(fields: dict[str, Any], what: str = "the record") -> bytes:
    """An object with one field a line and each value on that line: good to read, to grep and to diff."""
    lines = []
    for name, value in fields.items():
        # What records are mostly made of, without the detour through an encoder.
        kind = type(value)
        if kind is str:
            lines.append(_key(name) + _quote(value))
        elif kind is int or value is None or (kind is dict and not value):
            lines.append(f"{_key(name)}{'null' if value is None else value}")
        else:
            lines.append(_key(name) + _line(value, what))
    text = "{\n" + ",\n".join(lines) + "\n}\n" if lines else "{}\n"
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise half_a_character(what) from None


def half_a_character(what: str) -> InvalidInput:
    """The error for text that is none."""
    # RFC 7493 (I-JSON), 2.1: other readers refuse such text or replace it silently.
    return InvalidInput(f"{what} holds half of a surrogate pair, which is not a character and cannot be stored")


@lru_cache(maxsize=256)
def _key(name: str) -> str:
    return f"  {_quote(name)}: "


def _line(value: Any, what: str) -> str:
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
