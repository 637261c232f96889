"""One pass over the lines of a table that puts new rows in the place of old ones with the same key. Touches no file.

An upsert costs a copy of the table, so what is not replaced is copied as it lies there: a row's key is read from the
bytes of its line where the line is as plain as most are, and only else is the line parsed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from json.encoder import encode_basestring
from operator import itemgetter
from typing import Any

from breyta_spool import jsonio
from breyta_spool.errors import Damaged, InvalidInput

Key = bytes | tuple[bytes, ...]
"""A key of one field, or of several."""

_KEY = rb'("[^"\\\n]*"|-?[1-9][0-9]*|0)'
"""A text without escapes or a whole number: the bytes are the key. Whatever else a key may be is parsed."""
_SCALAR = rb'(?:"(?:[^"\\\n]|\\.)*"|-?[0-9][-+.0-9eE]*|true|false|null)'
_LONGEST_LEAD = 8
"""How many members may stand before the key for a line to count as plain."""


def key_of(row: dict[str, Any], fields: Sequence[str]) -> Key:
    """What a row is told apart by: the JSON text of its key fields, in which 1.0 is 1.

    >>> key_of({"id": 1.0}, ["id"]), key_of({"id": "1"}, ["id"])
    (b'1', b'"1"')
    """
    if len(fields) == 1:
        return _text(row.get(fields[0]))
    return tuple([_text(row.get(field)) for field in fields])


def _text(value: Any) -> bytes:
    if type(value) is str:
        return encode_basestring(value).encode("utf-8", "surrogatepass")
    if type(value) is float and value.is_integer():
        value = int(value)
    return jsonio.compact(value, "a key")


class Merge:
    """Rows on their way into a table: ``rows`` are counted as they pass.

    ``incoming`` maps a key to its new line, without the newline; ``what`` names the table in errors.
    """

    def __init__(self, fields: Sequence[str], incoming: dict[Key, bytes], what: str) -> None:
        self.rows = 0
        self._fields = fields
        self._incoming = incoming
        self._placed: set[Key] = set()
        self._what = what
        self._plain: _Plain | None = None

    def through(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The table after the merge, in pieces: old rows in their order, new keys at the end in theirs.

        ``chunks`` are whole lines. Of several old rows with the key of a new one the first is replaced, the others go.
        """
        for chunk in chunks:
            if self._plain is None:
                self._plain = _Plain(self._row(chunk[: chunk.index(b"\n")]), self._fields)
            yield self._merged(chunk, self._plain)
        new = [line for key, line in self._incoming.items() if key not in self._placed]
        self.rows += len(new)
        if new:
            yield b"\n".join([*new, b""])

    def _merged(self, chunk: bytes, plain: _Plain) -> bytes:
        count = chunk.count(b"\n")
        keys = plain.keys(chunk)
        lines: list[bytes] = []
        if len(keys) != count:
            lines = chunk.split(b"\n")[:-1]
            keys = [key_of(self._row(line), self._fields) for line in lines]
        hits = [key for key in keys if key in self._incoming]
        self.rows += count
        if not hits:
            return chunk
        lines = lines or chunk.split(b"\n")[:-1]
        before = len(self._placed)
        placed = self._placed.union(hits)
        if len(placed) - before == len(hits):  # each of them for the first time
            self._placed = placed
            merged: list[bytes] = list(map(self._incoming.get, keys, lines))
        else:
            merged = list(self._first_of_each(keys, lines))
            self.rows -= count - len(merged)
        return b"\n".join([*merged, b""])

    def _first_of_each(self, keys: Sequence[Key], lines: Sequence[bytes]) -> Iterator[bytes]:
        for key, line in zip(keys, lines, strict=True):
            if key not in self._incoming:
                yield line
            elif key not in self._placed:
                self._placed.add(key)
                yield self._incoming[key]

    def _row(self, line: bytes) -> dict[str, Any]:
        try:
            return jsonio.parse_object(line, self._what)
        except InvalidInput as error:
            raise Damaged(f"{self._what} holds a line that is no row: {error.message}") from None


class _Plain:
    """Reads keys without parsing, of rows that begin with the same members as the first row of the table."""

    def __init__(self, first: dict[str, Any], fields: Sequence[str]) -> None:
        names = list(first)
        lead = names[: 1 + max((names.index(field) if field in first else _LONGEST_LEAD) for field in fields)]
        self._find: Any = lambda chunk: []
        self._order: Any = None
        if len(lead) > _LONGEST_LEAD or not set(fields) <= set(lead):
            return
        members = [re.escape(jsonio.compact(name)) + b":" + (_KEY if name in fields else _SCALAR) for name in lead]
        # A line break is never inside a row, so what follows one is the beginning of a row.
        self._find = re.compile(rb"\n\{" + b",".join(members) + rb"[,}]").findall
        found_order = [name for name in lead if name in fields]
        if found_order != list(fields):
            self._order = itemgetter(*[found_order.index(field) for field in fields])

    def keys(self, chunk: bytes) -> list[Key]:
        """The keys of the rows in ``chunk``; fewer than there are rows when not all of them are plain."""
        found: list[Key] = self._find(b"\n" + chunk)
        return list(map(self._order, found)) if self._order else found
