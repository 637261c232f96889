"""Tables of a job: rows as JSON lines, and beside them a small file that says which of them count.

``NAME.jsonl`` is read as it is by pandas, DuckDB and jq. ``NAME.table.json`` holds columns, keys, the number of rows
and of bytes. Rows are written first and counted after, so a helper killed half-way leaves the table as it was: the
next writer cuts off what was not counted.
"""

from __future__ import annotations

import os
from typing import Any

from breyta_spool import files, jsonio
from breyta_spool.errors import Conflict, InvalidInput

APPEND, UPSERT = "append", "upsert"
EVOLVE, STRICT = "evolve", "strict"
_META_LIMIT = 4 << 20
_CHUNK_ROWS = 10_000

Row = dict[str, Any]
Columns = dict[str, dict[str, Any]]


class Table:
    """One table of one attempt. ``directory`` is the attempt's artifacts/tables, ``name`` a checked file name."""

    def __init__(self, directory: str, name: str) -> None:
        self.directory = directory
        self.name = name
        self.rows_file = f"{directory}/{name}.jsonl"
        self.meta_file = f"{directory}/{name}.table.json"

    def write(
        self, rows: list[Row], mode: str, schema_mode: str, key_fields: list[str], index_fields: list[str]
    ) -> dict[str, Any]:
        """Append rows, or insert and replace them by key; gives the table's description after it.

        All of the rows or none: a row that is not an object, lacks a key field or contradicts the schema raises
        InvalidInput and the table is as before.
        """
        files.make_dirs(self.directory, os.path.dirname(os.path.dirname(self.directory)))
        # Helpers that one handler runs side by side must not write to its tables at the same time.
        with files.alone(f"{self.directory}/.lock"):
            before = self._recovered()
            keys = key_fields or before["keyFields"]
            if before["keyFields"] and keys != before["keyFields"]:
                raise Conflict(f"table {self.name} has the key {before['keyFields']}, not {keys}")
            if mode == UPSERT and not keys:
                raise InvalidInput("upsert needs a key", hint="name the key's fields with --key-field")
            meta = {
                **before,
                "columns": merged_columns(before["columns"], before["rowCount"], rows, keys, schema_mode),
                "keyFields": keys,
                "indexFields": list(dict.fromkeys(before["indexFields"] + index_fields)),
            }
            if mode == UPSERT and (before["rowCount"] or len(rows) != len({_key(row, keys) for row in rows})):
                self._upsert(before, meta, rows)
            else:
                self._append(meta, rows)
            return meta

    def sealed(self) -> dict[str, Any]:
        """What a result says of the table: how many rows and bytes count, and their sha256; nothing if it is gone."""
        import hashlib

        try:
            with files.alone(f"{self.directory}/.lock"):
                meta = self._recovered()
            with open(self.rows_file, "rb") as rows:
                digest = hashlib.file_digest(rows, "sha256").hexdigest()
                return {"rowCount": meta["rowCount"], "sizeBytes": rows.tell(), "sha256": digest}
        except FileNotFoundError:
            return {}

    def _recovered(self) -> dict[str, Any]:
        """The description of the table, after what an interrupted writer left has been undone or completed."""
        try:
            meta = jsonio.parse_object(files.read(self.meta_file, _META_LIMIT), self.meta_file)
        except FileNotFoundError:
            meta = {
                "name": self.name,
                "columns": {},
                "keyFields": [],
                "indexFields": [],
                "rowCount": 0,
                "sizeBytes": 0,
            }
        planned = meta.pop("replacedBy", None)
        try:
            found = os.stat(self.rows_file, follow_symlinks=False)
        except FileNotFoundError:
            return meta
        if planned and planned["inode"] == found.st_ino:
            meta |= planned["description"]
        if found.st_size > meta["sizeBytes"]:
            files.truncate(self.rows_file, meta["sizeBytes"])
        return meta

    def _append(self, meta: dict[str, Any], rows: list[Row]) -> None:
        for start in range(0, len(rows), _CHUNK_ROWS):
            data = _lines(rows[start : start + _CHUNK_ROWS])
            files.append(self.rows_file, data)
            meta["sizeBytes"] += len(data)
        if not rows:
            files.append(self.rows_file, b"")
        meta["rowCount"] += len(rows)
        files.replace(self.meta_file, jsonio.record(meta))

    def _upsert(self, before: dict[str, Any], meta: dict[str, Any], rows: list[Row]) -> None:
        keys = meta["keyFields"]
        kept: dict[bytes, bytes] = {}
        if before["rowCount"]:
            with open(self.rows_file, "rb") as lines:
                for line in lines:
                    kept[_key(jsonio.parse(line, self.rows_file), keys)] = line
        for row in rows:
            kept[_key(row, keys)] = _lines([row])
        data = b"".join(kept.values())
        aside = f"{self.directory}/.{self.name}.jsonl.new"
        files.unlink(aside)
        files.write_new(aside, data)
        meta |= {"rowCount": len(kept), "sizeBytes": len(data)}
        # The rename changes the rows before they can be counted, so the count is written first, for this inode.
        planned = {"inode": os.stat(aside).st_ino, "description": meta}
        files.replace(self.meta_file, jsonio.record({**before, "replacedBy": planned}))
        files.rename(aside, self.rows_file)
        files.replace(self.meta_file, jsonio.record(meta))


def _lines(rows: list[Row]) -> bytes:
    return b"".join([jsonio.compact(row) + b"\n" for row in rows])


def _key(row: Row, keys: list[str]) -> bytes:
    return jsonio.compact([row.get(field) for field in keys])


def type_of(value: Any) -> str | None:
    """The column type of a value, None for null.

    >>> type_of(1), type_of(1.5), type_of("a"), type_of([1]), type_of(None)
    ('integer', 'number', 'string', 'json', None)
    """
    if value is None:
        return None
    if isinstance(value, bool):
        return "boolean"
    return {int: "integer", float: "number", str: "string"}.get(type(value), "json")


def merged_columns(columns: Columns, rows_before: int, rows: list[Any], keys: list[str], schema_mode: str) -> Columns:
    """The columns after these rows; the given ones are not changed.

    A new column is added (and is nullable when there were rows before), integers become numbers when a fraction
    comes, null makes a column nullable; any other change of type raises InvalidInput. With ``strict``, so does
    every change.
    """
    known = {name: dict(column) for name, column in columns.items()}
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise InvalidInput(f"row {number} must be an object, not {jsonio.kind_of(row)}")
        for field in keys:
            if row.get(field) is None:
                raise InvalidInput(f"row {number} has no value for the key field {field!r}", field=field, row=number)
        for name, value in row.items():
            _widen(known, name, value, number)
    for name, column in known.items():
        if not column["nullable"] and ((rows_before and name not in columns) or any(name not in row for row in rows)):
            column["nullable"] = True
    if schema_mode == STRICT and rows_before and known != columns:
        changed = sorted(name for name in known if known[name] != columns.get(name))
        raise InvalidInput(
            f"these rows would change the schema in {', '.join(changed)}",
            hint="with --schema-mode evolve new columns and wider types are added",
            columns=changed,
        )
    return known


def _widen(known: Columns, name: str, value: Any, number: int) -> None:
    kind = type_of(value)
    column = known.setdefault(name, {"type": kind, "nullable": kind is None})
    if kind == column["type"]:
        return
    if kind is None:
        column["nullable"] = True
    elif column["type"] is None or {kind, column["type"]} == {"integer", "number"}:
        column["type"] = "number" if column["type"] else kind
    else:
        raise InvalidInput(
            f"row {number}: {name} is {jsonio.kind_of(value)}, but that column holds type {column['type']}",
            field=name,
            row=number,
        )
