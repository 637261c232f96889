"""Tables of a job: rows as JSON lines, and beside them a small file that says which of them count.

``NAME.jsonl`` is read as it is by pandas, DuckDB and jq. ``NAME.table.json`` holds columns, keys, the number of rows
and of bytes. Rows are written first and counted after, so a helper killed half-way leaves the table as it was: the
next writer cuts off what was not counted.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, BinaryIO

from breyta_spool import files, jsonio, looking
from breyta_spool.columns import Row, Schema
from breyta_spool.errors import Conflict, Damaged, InvalidInput
from breyta_spool.merging import Key, Merge, key_of

APPEND, UPSERT = "append", "upsert"
MayCount = Callable[[], None]
DESCRIPTION_LIMIT = 4 << 20
ROW_LIMIT = 64 << 20
"""The most bytes of one row."""
_CHUNK = 1 << 20
BATCH = 32 << 20
"""How many bytes of new rows an upsert holds in memory; for more it goes through the table once more."""


class Table:
    """One table of one attempt. ``directory`` is the attempt's artifacts/tables, ``name`` a checked file name."""

    def __init__(self, directory: str, name: str) -> None:
        self.directory = directory
        self.name = name
        self.rows_file = f"{directory}/{name}.jsonl"
        self.meta_file = f"{directory}/{name}.table.json"
        self.rows_written = 0

    def write(
        self,
        rows: Iterable[Row],
        mode: str,
        schema_mode: str,
        key_fields: list[str],
        index_fields: list[str],
        may_count: MayCount = lambda: None,
    ) -> dict[str, Any]:
        """Append rows, or insert and replace them by key; gives the table's description after it.

        All of the rows or none: a row that is not an object, lacks a key field or contradicts the schema raises
        InvalidInput, and the table is as before. ``rows`` are read once, one by one; an append holds a megabyte of
        them in memory and does not read what is there. ``may_count`` is called before the rows count: they do not if
        it raises.
        """
        job_dir = os.path.dirname(os.path.dirname(os.path.dirname(self.directory)))
        files.make_dirs(self.directory, job_dir)
        # Helpers that one handler runs side by side must not write to its tables at the same time.
        with files.alone(f"{self.directory}/.lock"):
            before = self._recovered()
            meta = {
                **before,
                "keyFields": self._keys(before, key_fields, mode),
                "indexFields": list(dict.fromkeys(before["indexFields"] + index_fields)),
            }
            schema = Schema(before["columns"], before["rowCount"], meta["keyFields"], schema_mode)
            write = self._upsert if mode == UPSERT else self._append
            write(before, meta, _taken(rows, schema), schema, may_count)
            self.rows_written = schema.rows
            return meta

    def _keys(self, before: dict[str, Any], given: list[str], mode: str) -> list[str]:
        keys: list[str] = list(dict.fromkeys(given)) or before["keyFields"]
        if before["keyFields"] and keys != before["keyFields"]:
            raise Conflict(f"table {self.name} has the key {before['keyFields']}, not {keys}")
        if mode == UPSERT and not keys:
            raise InvalidInput("upsert needs a key", hint="name the key's fields with --key-field")
        return keys

    def sealed(self) -> dict[str, Any]:
        """What a result says of the table: how many rows and bytes count, and their sha256.

        Nothing if it is gone or damaged: a handler may leave anything here, and its job is to end all the same.
        """
        import hashlib

        try:
            with files.alone(f"{self.directory}/.lock"):
                meta = self._recovered()
            with open(looking.open_below(self.directory, f"{self.name}.jsonl"), "rb") as rows:
                digest = hashlib.file_digest(rows, "sha256").hexdigest()
                return {"rowCount": meta["rowCount"], "sizeBytes": rows.tell(), "sha256": digest}
        except (FileNotFoundError, Damaged):
            return {}

    def _recovered(self) -> dict[str, Any]:
        """The description of the table, after what an interrupted writer left has been undone or completed."""
        try:
            data = looking.read(self.meta_file, DESCRIPTION_LIMIT)
        except FileNotFoundError:
            data = None
        try:
            found = os.stat(self.rows_file, follow_symlinks=False)
        except FileNotFoundError:
            return description(data, 0, self.meta_file, self.name)
        if not stat.S_ISREG(found.st_mode):
            raise Damaged(f"{self.rows_file} is not a regular file", path=self.rows_file)
        meta = description(data, found.st_ino, self.meta_file, self.name)
        if found.st_size > meta["sizeBytes"]:
            files.truncate(self.rows_file, meta["sizeBytes"])
        return meta

    # -- append -------------------------------------------------------------------------------------

    def _append(self, before: Row, meta: Row, rows: Iterator[Row], schema: Schema, may_count: MayCount) -> None:
        self._append_lines(before, meta, map(_line, rows), schema, may_count)

    def _append_lines(
        self, before: Row, meta: Row, lines: Iterable[bytes], schema: Schema, may_count: MayCount
    ) -> None:
        size, count = before["sizeBytes"], before["rowCount"]
        try:
            for number, data in _chunks(lines):
                files.append(self.rows_file, data)
                size += len(data)
                count += number
            if size == 0:
                files.append(self.rows_file, b"")
            meta |= {"columns": schema.columns, "rowCount": count, "sizeBytes": size}
            data = self._described(meta)
            may_count()
        except BaseException:
            self._take_back(before["sizeBytes"])
            raise
        files.replace(self.meta_file, data)

    def _take_back(self, size: int) -> None:
        """Cut off what is not going to count: now, rather than when somebody writes again."""
        with suppress(OSError):
            if size or os.path.lexists(self.meta_file):
                files.truncate(self.rows_file, size)
            else:
                files.unlink(self.rows_file)

    def _described(self, meta: Row) -> bytes:
        data = jsonio.record(meta)
        if 2 * len(data) + 4096 > DESCRIPTION_LIMIT:  # an upsert writes it twice into one file
            raise InvalidInput(f"the description of table {self.name} is too long: its columns have long names")
        return data

    # -- upsert -------------------------------------------------------------------------------------

    def _upsert(self, before: Row, meta: Row, rows: Iterator[Row], schema: Schema, may_count: MayCount) -> None:
        keys = meta["keyFields"]
        batches = _batches(rows, keys)
        incoming = next(batches)
        following = next(batches, None)
        if following is None and not before["rowCount"]:
            lines = [line + b"\n" for line in incoming.values()]
            return self._append_lines(before, meta, lines, schema, may_count)
        aside = [f"{self.directory}/.{self.name}.jsonl.new", f"{self.directory}/.{self.name}.jsonl.new2"]
        source, size = self.rows_file, before["sizeBytes"]
        for path in aside:
            files.unlink(path)
        try:
            while True:
                rows_now, size = self._merged(source, size, aside[0], keys, incoming)
                if following is None:
                    break
                incoming, following = following, next(batches, None)
                source, aside = aside[0], aside[::-1]
                files.unlink(aside[0])
            meta |= {"columns": schema.columns, "rowCount": rows_now, "sizeBytes": size}
            data = self._described(meta)
            may_count()
        except BaseException:
            for path in aside:
                files.forget(path)
            raise
        files.unlink(aside[1])
        # The rename changes the rows before they can be counted, so the count is written first, for this inode.
        planned = {"inode": os.stat(aside[0]).st_ino, "description": meta}
        files.replace(self.meta_file, jsonio.record({**before, "replacedBy": planned}))
        files.put(aside[0], self.rows_file)
        files.replace(self.meta_file, data)
        return None

    def _merged(self, source: str, size: int, to: str, keys: list[str], new: dict[Key, bytes]) -> tuple[int, int]:
        """Write the rows of ``source`` with ``new`` ones merged in to another file; gives its rows and bytes."""
        merge, written = Merge(keys, new, source), 0
        with files.writing_new(to) as write:
            for data in merge.through(counted(source, size)):
                write(data)
                written += len(data)
        return merge.rows, written


def counted(path: str, size: int) -> Iterator[bytes]:
    """The rows of a table that count, in pieces of whole lines. Raises Damaged when there are fewer."""
    if size:
        with open(path, "rb") as rows:
            yield from whole_lines(rows, size, path)


def whole_lines(rows: BinaryIO, size: int, path: str) -> Iterator[bytes]:
    """The first ``size`` bytes of an open table, in pieces of about a megabyte that end with a line."""
    rest = b""
    while size > 0:
        data = rows.read(min(size, max(_CHUNK, len(rest))))
        size -= len(data)
        end = data.rfind(b"\n") + 1
        if not data or (not end and len(rest) + len(data) > ROW_LIMIT + _CHUNK):
            break
        if end:
            yield rest + data[:end] if rest else data[:end]
            rest = data[end:]
        else:
            rest += data
    if size > 0 or rest:
        raise Damaged(f"{path} is shorter than its description says, or ends within a row", path=path)


def description(data: bytes | None, inode: int, path: str, name: str) -> dict[str, Any]:
    """What counts of a table whose rows are the file ``inode``, from the bytes of its description. Raises Damaged."""
    if data is None:
        return {"name": name, "columns": {}, "keyFields": [], "indexFields": [], "rowCount": 0, "sizeBytes": 0}
    try:
        meta = jsonio.parse_object(data, path)
    except InvalidInput as error:
        raise Damaged(error.message, path=path) from None
    planned = meta.pop("replacedBy", None)
    if isinstance(planned, dict) and planned.get("inode") == inode and isinstance(planned.get("description"), dict):
        meta |= planned["description"]
    if not _is_description(meta):
        raise Damaged(f"{path} does not describe a table", path=path)
    return meta


def _is_description(meta: dict[str, Any]) -> bool:
    columns = meta.get("columns")
    return (
        all(type(meta.get(name)) is int and meta[name] >= 0 for name in ("rowCount", "sizeBytes"))
        and all(_are_texts(meta.get(name)) for name in ("keyFields", "indexFields"))
        and isinstance(meta.get("name"), str)
        and isinstance(columns, dict)
        and all(map(_is_column, columns.values()))
    )


def _is_column(column: Any) -> bool:
    return (
        isinstance(column, dict)
        and isinstance(column.get("type", ...), str | None)
        and isinstance(column.get("nullable"), bool)
    )


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _taken(rows: Iterable[Row], schema: Schema) -> Iterator[Row]:
    take = schema.take
    for row in rows:
        take(row)
        yield row


def _line(row: Row) -> bytes:
    line = jsonio.compact(row, "a row")
    if line.count(b"[") + line.count(b"{") > jsonio.MAX_DEPTH:  # fewer brackets cannot nest deeper
        jsonio.check_depth(row, "a row")
    if len(line) > ROW_LIMIT:
        raise InvalidInput(f"a row has at most {ROW_LIMIT} bytes, this one has {len(line)}")
    return line + b"\n"


def _chunks(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Lines put together to about a megabyte, and how many they are."""
    held: list[bytes] = []
    size = 0
    for line in lines:
        held.append(line)
        size += len(line)
        if size >= _CHUNK:
            yield len(held), b"".join(held)
            held, size = [], 0
    if held:
        yield len(held), b"".join(held)


def _batches(rows: Iterable[Row], keys: list[str]) -> Iterator[dict[Key, bytes]]:
    """New lines by key, of several with one key the last, as many as may be held in memory; at least one batch."""
    held: dict[Key, bytes] = {}
    size = 0
    for row in rows:
        line = _line(row)[:-1]
        held[key_of(row, keys)] = line
        size += len(line) + 200
        if size >= BATCH:
            yield held
            held, size = {}, 0
    if held or not size:
        yield held
