"""Rows as bytes of a file to hand on: CSV or JSON, a piece at a time. Pure.

CSV is that of RFC 4180 with line feeds: a header, UTF-8, no value is an empty field, true and false are words, arrays
and objects their JSON text. Text stands as it is, so that a reader gets back what was put in; a spreadsheet may take
text that begins with ``= + - @``, a tab or a carriage return for a formula, so ``safe`` puts an apostrophe before it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from breyta_spool import jsonio

CSV, JSON, PARQUET = "csv", "json", "parquet"
FORMATS = (CSV, JSON, PARQUET)
_PIECE = 1 << 16
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_csv(rows: Iterable[dict[str, Any]], columns: Sequence[str], *, safe: bool = False) -> Iterator[bytes]:
    """Rows as CSV with the given columns.

    >>> b"".join(as_csv([{"a": 1, "b": "x,y"}, {"b": [1], "a": None}], ["a", "b"]))
    b'a,b\\n1,"x,y"\\n,[1]\\n'
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([_field(name, safe) for name in columns])
    for row in rows:
        writer.writerow([_field(row.get(name), safe) for name in columns])
        if text.tell() > _PIECE:
            yield _bytes_of(text)
            text.seek(0)
            text.truncate()
    yield _bytes_of(text)


def _bytes_of(text: io.StringIO) -> bytes:
    try:
        return text.getvalue().encode()
    except UnicodeEncodeError:
        raise jsonio.half_a_character("a row") from None


def _field(value: Any, safe: bool) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if safe and value.startswith(_FORMULA) else value
    return jsonio.compact(value).decode()


def as_json(rows: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """Rows as one JSON array, a row a line.

    >>> b"".join(as_json([{"a": 1}, {"a": 2}]))
    b'[\\n{"a":1},\\n{"a":2}\\n]\\n'
    """
    before = b"[\n"
    held: list[bytes] = []
    for row in rows:
        held += (before, jsonio.compact(row))
        before = b",\n"
        if len(held) >= 1000:
            yield b"".join(held)
            held = []
    yield b"".join(held) + (b"\n]\n" if before == b",\n" else b"[]\n")
