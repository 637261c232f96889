"""What may be asked of the rows of a table: a filter, an order, a choice of fields, a page. Pure, one row at a time.

A field that is missing and one that is null are the same: no value. Values compare with their own kind alone:
numbers with numbers, texts by code point, false before true; true is not 1. What that means for each predicate stands
at ``Where``.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from breyta_spool import jsonio
from breyta_spool.errors import InvalidInput, shown

Row = dict[str, Any]
Test = Callable[[Row], bool]

PREDICATES = ("=", "!=", "<", "<=", ">", ">=", "in", "contains", "is-null")
_CLAUSES = 100
_HINT = '[["severity", "=", "high"], ["score", ">=", 7]]; predicates: ' + " ".join(PREDICATES)


@dataclass(frozen=True)
class Query:
    """Which rows, in which order, which fields of them, and which page. ``limit`` None is all."""

    where: Sequence[Sequence[Any]] = ()
    sort: Sequence[Sequence[Any]] = ()
    select: Sequence[str] = ()
    limit: int | None = None
    offset: int = 0

    @property
    def chooses(self) -> bool:
        """Whether it asks for anything but the whole table."""
        return bool(self.where or self.sort or self.select or self.offset) or self.limit is not None

    def check(self, columns: Iterable[str]) -> None:
        """Raise InvalidInput when the query has not the right form, or names a field that no row has."""
        where(self.where)
        _order(self.sort)
        _page(self.limit, self.offset)
        known = set(columns)
        named = [clause[0] for clause in [*self.where, *self.sort]] + list(self.select)
        unknown = [name for name in named if name not in known]
        if known and unknown:
            some = ", ".join(sorted(known)[:30]) + (", .." if len(known) > 30 else "")
            raise InvalidInput(f"the table has no column {unknown[0]!r}", hint=f"its columns are {some}", field="where")


def _page(limit: int | None, offset: int) -> None:
    for field, value in (("limit", limit or 0), ("offset", offset)):
        # Together they must still be a size that the system knows.
        if not isinstance(value, int) or not 0 <= value < 1 << 62:
            raise InvalidInput(f"{field}: {shown(value)} is not a whole number from 0", field=field)


class Page:
    """The rows of a query: those of the page when iterated, and ``matched``, how many matched, when that is done."""

    def __init__(self, rows: Iterable[Row], query: Query) -> None:
        self.matched = 0
        self._rows = rows
        self._query = query

    def __iter__(self) -> Iterator[Row]:
        query = self._query
        found = self._matching()
        if query.sort:
            found = iter(_sorted(found, query))
        end = None if query.limit is None else query.offset + query.limit
        for row in islice(found, query.offset, end):
            yield {name: row.get(name) for name in query.select} if query.select else row
        for _ in found:
            pass  # they are only counted

    def _matching(self) -> Iterator[Row]:
        matches = where(self._query.where)
        for row in self._rows:
            if matches(row):
                self.matched += 1
                yield row


def where(clauses: Any) -> Test:
    """A test that a row passes when it passes all clauses ``[field, predicate, value]``. Raises InvalidInput.

    ``=`` is true for equal values, ``!=`` for all else, also for no value. ``<``, ``<=``, ``>``, ``>=`` are true only
    for two numbers, two texts or two booleans. ``in`` is true for a value that equals one of the list. ``contains``
    is true for a text that has the given text in it, and for an array that has an element equal to it. ``is-null``
    needs no value, or true or false. To compare with null, ``is-null`` is the only way.

    >>> where([["severity", "=", "high"], ["score", ">", 6.5]])({"severity": "high", "score": 7})
    True
    >>> where([["severity", "!=", "high"]])({})
    True
    """
    if not isinstance(clauses, list | tuple) or len(clauses) > _CLAUSES:
        raise InvalidInput(f"a filter is an array of at most {_CLAUSES} clauses", hint=_HINT, field="where")
    tests = [_test(clause) for clause in clauses]
    if len(tests) == 1:
        return tests[0]
    return lambda row: all(test(row) for test in tests)


def _test(clause: Any) -> Test:
    if not isinstance(clause, list | tuple) or len(clause) not in (2, 3) or not isinstance(clause[0], str):
        raise InvalidInput(f"not a clause of a filter: {shown(clause)}", hint=_HINT, field="where")
    field, predicate = clause[0], clause[1]
    if predicate not in PREDICATES:
        raise InvalidInput(f"unknown predicate {shown(predicate)}", hint=_HINT, field="where")
    if predicate == "is-null":
        return _is_null(field, clause[2] if len(clause) == 3 else True)
    if len(clause) == 2:
        raise InvalidInput(f"{shown(clause)}: {predicate} needs a value", hint=_HINT, field="where")
    value = clause[2]
    if value is None or (predicate == "in" and isinstance(value, list | tuple) and None in value):
        raise InvalidInput(f"{shown(clause)} compares with null", hint="is-null tells", field="where")
    return _comparison(field, predicate, value)


def _is_null(field: str, wanted: Any) -> Test:
    if not isinstance(wanted, bool):
        raise InvalidInput(f"is-null takes true or false, not {jsonio.kind_of(wanted)}", field="where")
    return lambda row: (row.get(field) is None) is wanted


def _comparison(field: str, predicate: str, value: Any) -> Test:
    if predicate == "in":
        if not isinstance(value, list | tuple):
            raise InvalidInput(f"in takes an array, not {jsonio.kind_of(value)}", hint=_HINT, field="where")
        return _in(field, value)
    if predicate == "contains":
        return lambda row: _contains(row.get(field), value)
    if predicate in ("=", "!="):
        same, equal = identity(value), predicate == "="
        if isinstance(value, str):
            return lambda row: (row.get(field) == value) is equal
        return lambda row: (identity(row.get(field)) == same) is equal
    return _less(field, predicate, value)


def _in(field: str, values: Sequence[Any]) -> Test:
    wanted = {identity(value) for value in values}
    return lambda row: identity(row.get(field)) in wanted


def _less(field: str, predicate: str, value: Any) -> Test:
    kind = _kind(value)
    if kind == _NESTED:
        raise InvalidInput(f"{predicate} takes a number, a text or a boolean, not {jsonio.kind_of(value)}", hint=_HINT)

    def test(row: Row) -> bool:
        found = row.get(field)
        if found is None or _kind(found) != kind:
            return False
        if predicate in ("<", "<="):
            return bool(found < value or (predicate == "<=" and found == value))
        return bool(found > value or (predicate == ">=" and found == value))

    return test


def _contains(found: Any, value: Any) -> bool:
    if isinstance(found, str):
        return isinstance(value, str) and value in found
    if isinstance(found, list):
        wanted = identity(value)
        return any(identity(item) == wanted for item in found)
    return False


_BOOLEAN, _NUMBER, _STRING, _NESTED = range(4)


def _kind(value: Any) -> int:
    if isinstance(value, bool):
        return _BOOLEAN
    if isinstance(value, int | float):
        return _NUMBER
    return _STRING if isinstance(value, str) else _NESTED


def identity(value: Any) -> Any:
    """Something hashable that is equal for equal JSON values, and only for them: Python takes true for 1.

    >>> identity(1) == identity(1.0), identity(1) == identity(True), identity({"a": [1]}) == identity({"a": [1.0]})
    (True, False, True)
    """
    if isinstance(value, dict):
        return "object", frozenset((name, identity(item)) for name, item in value.items())
    if isinstance(value, list | tuple):
        return "array", tuple(identity(item) for item in value)
    return (value, isinstance(value, bool))


# -- order ------------------------------------------------------------------------------------------


class _Down:
    """Turns the order of what it holds around."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __lt__(self, other: _Down) -> bool:
        return bool(other.value < self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Down) and self.value == other.value

    __hash__ = None  # type: ignore[assignment]


def _order(clauses: Any) -> list[tuple[str, bool]]:
    if not isinstance(clauses, list | tuple) or len(clauses) > _CLAUSES:
        raise InvalidInput('a sort is an array like [["finding_id", "asc"]]', field="sort")
    found = []
    for clause in clauses:
        fits = isinstance(clause, list | tuple) and 1 <= len(clause) <= 2 and isinstance(clause[0], str)
        direction = clause[1] if fits and len(clause) == 2 else "asc"
        if not fits or direction not in ("asc", "desc"):
            raise InvalidInput(
                f"not a clause of a sort: {shown(clause)}", hint='[["finding_id", "asc"]], or "desc"', field="sort"
            )
        found.append((clause[0], direction == "desc"))
    return found


def _sorted(rows: Iterable[Row], query: Query) -> list[Row]:
    """Rows in order; as many as the page ends with, when it has an end: no more than those are held in memory."""
    key = sort_key(query.sort)
    if query.limit is None:
        return sorted(rows, key=key)
    return heapq.nsmallest(max(1, query.offset + query.limit), rows, key=key)  # for none it would not count the rows


def sort_key(clauses: Any) -> Callable[[Row], Any]:
    """What to sort rows by. Rows that are equal in it stay in the order of the table.

    No value comes last, up or down. Of different kinds booleans come before numbers before texts before arrays and
    objects, which are ordered by their JSON text; down, that is turned around.
    """
    order = _order(clauses)

    def key(row: Row) -> list[Any]:
        parts: list[Any] = []
        for field, down in order:
            value = row.get(field)
            kind = _kind(value)
            part = (kind, jsonio.compact(value).decode() if kind == _NESTED and value is not None else value)
            parts.append((1,) if value is None else (0, _Down(part) if down else part))
        return parts

    return key
