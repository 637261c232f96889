"""The columns of a table, learnt from the rows that come: types that widen, columns that are added. Pure.

Most rows have the form of one before: the same fields with values of the same types. Such a row costs one look.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from breyta_spool import jsonio
from breyta_spool.errors import InvalidInput

EVOLVE, STRICT = "evolve", "strict"
COLUMN_LIMIT = 5_000
"""The most columns of a table: all of them are in its description, which is read and written with every change."""
_FORMS = 10_000

Row = dict[str, Any]
Columns = dict[str, dict[str, Any]]


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


class Schema:
    """The columns of a table that has ``rows_before`` rows, as further rows come. The given ones are not changed.

    A new column is added (and is nullable when there were rows before), integers become numbers when a fraction
    comes, null or nothing makes a column nullable; any other change of type raises InvalidInput. With ``strict``, so
    does every change, once there are rows.
    """

    def __init__(self, columns: Columns, rows_before: int, keys: Sequence[str], mode: str) -> None:
        self.columns = {name: dict(column) for name, column in columns.items()}
        self.rows = 0
        self._before = columns
        self._rows_before = rows_before
        self._keys = keys
        self._strict = mode == STRICT and rows_before > 0
        self._forms: set[tuple[Any, ...]] = set()

    def take(self, row: Any) -> None:
        """Look at the next row. Raises InvalidInput with the number of the row, from 0."""
        if not isinstance(row, dict):
            raise InvalidInput(f"row {self.rows} must be an object, not {jsonio.kind_of(row)}", row=self.rows)
        form = (*row, *map(type, row.values()))
        if form not in self._forms:
            self._learn(row)
            if len(self._forms) < _FORMS:
                self._forms.add(form)
        self.rows += 1

    def _learn(self, row: Row) -> None:
        """Look at a row of a new form."""
        for field in self._keys:
            if row.get(field) is None:
                message = f"row {self.rows} has no value for the key field {field!r}"
                raise InvalidInput(message, field=field, row=self.rows)
        for name, value in row.items():
            self._widen(name, value)
        for name, column in self.columns.items():
            if name not in row:
                column["nullable"] = True
        if self._strict and self.columns != self._before:
            changed = sorted(name for name in self.columns if self.columns[name] != self._before.get(name))
            raise InvalidInput(
                f"row {self.rows} would change the schema in {', '.join(changed)}",
                hint="with --schema-mode evolve new columns and wider types are added",
                columns=changed,
                row=self.rows,
            )

    def _widen(self, name: str, value: Any) -> None:
        kind = type_of(value)
        column = self.columns.get(name)
        if column is None:
            self._add(name, kind)
        elif kind is None:
            column["nullable"] = True
        elif column["type"] is None or {kind, column["type"]} == {"integer", "number"}:
            column["type"] = "number" if column["type"] else kind
        elif kind != column["type"]:
            raise InvalidInput(
                f"row {self.rows}: {name} is {jsonio.kind_of(value)}, but that column holds type {column['type']}",
                hint="give such rows a table of their own, or the column one type",
                field=name,
                row=self.rows,
            )

    def _add(self, name: str, kind: str | None) -> None:
        if not isinstance(name, str):
            raise InvalidInput(f"row {self.rows}: {name!r} is not a text, so it cannot name a column", row=self.rows)
        if len(self.columns) >= COLUMN_LIMIT:
            raise InvalidInput(
                f"row {self.rows}: a table has at most {COLUMN_LIMIT} columns",
                hint="keep what has many names as one object: a column may hold any JSON value",
                row=self.rows,
            )
        self.columns[name] = {"type": kind, "nullable": kind is None or self._rows_before + self.rows > 0}


def merged_columns(columns: Columns, rows_before: int, rows: list[Any], keys: list[str], schema_mode: str) -> Columns:
    """The columns of a table with ``rows_before`` rows after these rows. Raises InvalidInput."""
    schema = Schema(columns, rows_before, keys, schema_mode)
    for row in rows:
        schema.take(row)
    return schema.columns
