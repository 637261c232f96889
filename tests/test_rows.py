from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from breyta_spool import InvalidInput, exporting
from breyta_spool.rows import Page, Query, identity, sort_key, where

ROWS: list[dict[str, Any]] = [
    {"id": 1, "s": "high", "n": 7, "tags": ["a", 1], "ok": True},
    {"id": 2, "s": "low", "n": 7.5, "tags": [], "ok": False},
    {"id": 3, "s": None, "n": None},
    {"id": 4, "s": "High", "n": "7"},
]

FILTERS = [
    ([["s", "=", "high"]], [1]),
    ([["s", "!=", "high"]], [2, 3, 4]),
    ([["n", "=", 7.0]], [1]),
    ([["n", "=", True]], []),
    ([["ok", "=", 1]], []),
    ([["ok", "=", True]], [1]),
    ([["n", ">", 7]], [2]),
    ([["n", ">=", 7]], [1, 2]),
    ([["n", "<", 100]], [1, 2]),
    ([["n", "<=", "7"]], [4]),
    ([["s", "<", "a"]], [4]),
    ([["ok", "<", True]], [2]),
    ([["s", "in", ["low", "High"]]], [2, 4]),
    ([["n", "in", [7, "7"]]], [1, 4]),
    ([["s", "contains", "ig"]], [1, 4]),
    ([["tags", "contains", 1.0]], [1]),
    ([["tags", "contains", "a"]], [1]),
    ([["tags", "=", ["a", 1.0]]], [1]),
    ([["n", "contains", 7]], []),
    ([["tags", "is-null"]], [3, 4]),
    ([["tags", "is-null", False]], [1, 2]),
    ([["s", "is-null"], ["n", "is-null", True]], [3]),
    ([["s", "!=", "low"], ["n", ">", 1]], [1]),
    ([], [1, 2, 3, 4]),
]


@pytest.mark.parametrize(("clauses", "ids"), FILTERS, ids=lambda value: json.dumps(value)[:50])
def test_a_filter_takes_the_rows_for_which_all_clauses_hold(clauses: Any, ids: list[int]) -> None:
    page = Page(ROWS, Query(where=clauses))
    assert [row["id"] for row in page] == ids
    assert page.matched == len(ids)


BAD_FILTERS = [
    ({"s": "high"}, "array"),
    (["s", "=", "high"], "not a clause"),
    ([["s"]], "not a clause"),
    ([[1, "=", 1]], "not a clause"),
    ([["s", "like", "h"]], "unknown predicate 'like'"),
    ([["s", ["="], "h"]], "unknown predicate"),
    ([["s", "="]], "needs a value"),
    ([["s", "=", None]], "compares with null"),
    ([["s", "in", [None]]], "compares with null"),
    ([["s", "in", "high"]], "takes an array"),
    ([["s", "<", [1]]], "takes a number"),
    ([["s", "is-null", 1]], "true or false"),
    ([["s", "=", 1]] * 101, "at most 100"),
]


@pytest.mark.parametrize(("clauses", "says"), BAD_FILTERS, ids=lambda value: str(value)[:40])
def test_a_filter_that_is_none_is_refused(clauses: Any, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        where(clauses)


@pytest.mark.parametrize("clauses", ["id", [["id", "up"]], ["id"], [[1]], [["id", "asc", 1]]], ids=str)
def test_a_sort_that_is_none_is_refused(clauses: Any) -> None:
    with pytest.raises(InvalidInput, match="sort"):
        sort_key(clauses)


def test_a_field_that_no_row_has_is_refused_unless_the_table_is_empty() -> None:
    for query in (Query(where=[["x", "is-null"]]), Query(sort=[["x"]]), Query(select=["x"])):
        with pytest.raises(InvalidInput, match="no column 'x'"):
            query.check(["id", "s"])
        query.check([])


def ordered(sort: Any, values: list[Any]) -> list[Any]:
    return [row.get("v") for row in Page([{"v": value} for value in values], Query(sort=sort))]


def test_kinds_have_an_order_and_no_value_comes_last_up_and_down() -> None:
    mixed = ["b", None, 2, [1], True, 1.5, "a", False, {"a": 1}]
    up = [False, True, 1.5, 2, "a", "b", [1], {"a": 1}]
    assert ordered([["v", "asc"]], mixed) == [*up, None]
    assert ordered([["v"]], mixed) == [*up, None]
    assert ordered([["v", "desc"]], mixed) == [*up[::-1], None]


def test_equal_rows_stay_in_the_order_of_the_table_up_and_down() -> None:
    rows = [{"id": 1, "v": 1}, {"id": 2, "v": 0}, {"id": 3, "v": 1.0}, {"id": 4, "v": 0}]
    for direction, ids in (("asc", [2, 4, 1, 3]), ("desc", [1, 3, 2, 4])):
        assert [row["id"] for row in Page(rows, Query(sort=[["v", direction]]))] == ids
    assert [row["id"] for row in Page(rows, Query(sort=[["v", "desc"], ["id", "desc"]]))] == [3, 1, 4, 2]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=5,
)


@given(st.lists(JSON_VALUES, max_size=20), st.integers(0, 25), st.integers(0, 25), st.sampled_from(["asc", "desc"]))
def test_a_page_of_a_sort_is_that_part_of_the_whole_sort(values: Any, offset: int, limit: int, way: str) -> None:
    rows = [{"id": number, "v": value} for number, value in enumerate(values)]
    whole = [row["id"] for row in Page(rows, Query(sort=[["v", way]]))]
    page = Page(rows, Query(sort=[["v", way]], limit=limit, offset=offset))
    assert [row["id"] for row in page] == whole[offset : offset + limit]
    assert page.matched == len(rows)


@given(JSON_VALUES, JSON_VALUES)
def test_identity_is_that_of_json(one: Any, other: Any) -> None:
    def normal(value: Any) -> str:
        if isinstance(value, float) and value.is_integer():
            return str(int(value))
        if isinstance(value, list):
            return f"[{','.join(map(normal, value))}]"
        if isinstance(value, dict):
            return f"{{{','.join(f'{json.dumps(k)}:{normal(v)}' for k, v in sorted(value.items()))}}}"
        return json.dumps(value)

    assert (identity(one) == identity(other)) == (normal(one) == normal(other))
    assert identity(one) == identity(json.loads(json.dumps(one)))


def test_a_page_counts_all_that_match_and_selects_fields_in_the_order_asked_for() -> None:
    page = Page(ROWS, Query(where=[["n", "is-null", False]], select=["n", "missing"], limit=1, offset=1))
    assert [list(row.items()) for row in page] == [[("n", 7.5), ("missing", None)]]
    assert page.matched == 3


# -- export -----------------------------------------------------------------------------------------

CELLS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"))
)


@given(st.lists(st.dictionaries(st.sampled_from("abc"), CELLS), max_size=6))
def test_csv_is_read_back_as_it_was_written(rows: list[dict[str, Any]]) -> None:
    data = b"".join(exporting.as_csv(rows, ["a", "b", "c"])).decode()
    read = list(csv.DictReader(io.StringIO(data, newline="")))
    words = {True: "true", False: "false", None: ""}

    def cell(value: Any) -> str:
        return words[value] if value is None or isinstance(value, bool) else str(value)

    assert read == [{name: cell(row.get(name)) for name in "abc"} for row in rows]


def test_csv_keeps_formulas_as_they_are_unless_asked_to_make_them_safe() -> None:
    rows = [{"a": text} for text in ("=1+1", "+1", "-x", "@f", "\tx", "fine=1")] + [{"a": -5}]
    plain = list(csv.reader(io.StringIO(b"".join(exporting.as_csv(rows, ["a"])).decode(), newline="")))
    safe = list(csv.reader(io.StringIO(b"".join(exporting.as_csv(rows, ["a"], safe=True)).decode(), newline="")))
    assert [line[0] for line in plain[1:]] == ["=1+1", "+1", "-x", "@f", "\tx", "fine=1", "-5"]
    assert [line[0] for line in safe[1:]] == ["'=1+1", "'+1", "'-x", "'@f", "'\tx", "fine=1", "-5"]


@given(st.lists(st.dictionaries(st.text(max_size=2), JSON_VALUES, max_size=3), max_size=5))
def test_json_is_one_array_with_the_rows(rows: list[dict[str, Any]]) -> None:
    data = b"".join(exporting.as_json(rows))
    assert json.loads(data) == rows
    assert data.count(b"\n") == (len(rows) + 2 if rows else 1)
