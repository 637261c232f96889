"""Tables and values against a model of them: a list, a dictionary, and a loop that looks at every row."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from breyta_spool import Conflict, InvalidInput, Spool, SpoolError
from breyta_spool.rows import Page, Query, where
from tests.property.laws import refused, tried

FIELDS = ("id", "a", "b")
VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([1.0, 1.5, -0.0, "", "1", "x\n", '"', "é", "\u2028"])
)
NUMBERS = st.none() | st.integers(-3, 3) | st.sampled_from([1.0, 1.5, -0.0])
TEXTS = st.none() | st.sampled_from(["", "1", "x\n", '"', "\u2028"])
CELLS_OF = {"id": NUMBERS, "a": NUMBERS, "b": TEXTS}
"""Mostly of one type in a column: a row that contradicts is refused, and a table of nothing but those stays empty."""
ROWS = st.lists(
    st.fixed_dictionaries({}, optional=CELLS_OF) | st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=1),
    max_size=4,
)
KEYED = st.lists(
    st.fixed_dictionaries({"id": st.integers(0, 2) | st.just(1.0)}, optional={"a": NUMBERS, "b": TEXTS}), max_size=4
)


def _type(value: Any) -> str | None:
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): None}
    return kinds[type(value)]


class Model:
    """What a table should hold."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.types: dict[str, str | None] = {}
        self.nullable: dict[str, bool] = {}
        self.key: str | None = None

    def fits(self, rows: Iterable[dict[str, Any]], strict: bool, key: str | None) -> Model | None:
        """The model with the columns after these rows; None when they must be refused."""
        after = Model()
        after.rows, after.types, after.nullable, after.key = self.rows, dict(self.types), dict(self.nullable), key
        for number, row in enumerate(rows):
            if key is not None and row.get(key) is None:
                return None
            for name, value in row.items():
                kind, had = _type(value), after.types.get(name)
                if name not in after.types:
                    after.nullable[name] = bool(self.rows) or number > 0
                elif kind is not None and had is not None and kind != had and {kind, had} != {"integer", "number"}:
                    return None
                wider = "number" if kind is not None and had is not None and kind != had else (had or kind)
                after.types[name] = wider
                after.nullable[name] |= kind is None
            for name in after.types:
                after.nullable[name] |= name not in row
        if strict and self.rows and (after.types, after.nullable) != (self.types, self.nullable):
            return None
        return after

    def append(self, rows: list[dict[str, Any]]) -> None:
        self.rows = self.rows + rows

    def upsert(self, rows: list[dict[str, Any]]) -> None:
        assert self.key is not None
        new = {row[self.key]: row for row in rows}
        placed: set[Any] = set()
        kept = []
        for row in self.rows:
            key = row.get(self.key)
            if key is None or isinstance(key, bool | str) or key not in new:
                kept.append(row)
            elif key not in placed:
                placed.add(key)
                kept.append(new[key])
        self.rows = kept + [row for key, row in new.items() if key not in placed]


class Tables(RuleBasedStateMachine):
    """One table and one value of a job that somebody works on."""

    @initialize()
    def begin(self) -> None:
        self.place = tempfile.mkdtemp(prefix="tables-")
        self.spool = Spool.init(f"{self.place}/spool", durability="none")
        self.spool.submit("t")
        lease = self.spool.claim("t", "w", lease="1h")
        assert lease is not None
        self.lease = lease
        self.model: Model | None = None
        self.values: dict[str, Any] = {}
        self.uri = ""

    def teardown(self) -> None:
        shutil.rmtree(self.place)

    def _write(self, rows: list[dict[str, Any]], mode: str, strict: bool, key: str | None) -> None:
        model = self.model or Model()
        said = refused(
            lambda: self.lease.dir.attach_table(
                "t",
                iter(rows),
                write_mode=mode,
                schema_mode="strict" if strict else "evolve",
                key_fields=[key] if key else None,
            )
        )
        wanted = key or model.key
        after = None if mode == "upsert" and wanted is None else model.fits(rows, strict, wanted)
        if model.key not in (None, wanted):
            assert isinstance(said, Conflict)
        elif after is None:
            assert isinstance(said, InvalidInput), said
        else:
            assert not isinstance(said, SpoolError), said
            after.upsert(rows) if mode == "upsert" else after.append(rows)
            self.model, self.uri = after, str(said["resourceUri"])
            assert (said["rowsWritten"], said["rowCount"]) == (len(rows), len(after.rows))

    @rule(rows=ROWS | KEYED, strict=st.booleans())
    def append(self, rows: list[dict[str, Any]], strict: bool) -> None:
        self._write(rows, "append", strict, None)

    @rule(rows=KEYED, strict=st.booleans(), key=st.sampled_from(["id", "id", None, "a"]))
    def upsert(self, rows: list[dict[str, Any]], strict: bool, key: str | None) -> None:
        if key == "a":
            rows = []
        self._write(rows, "upsert", strict, key)

    @rule(key=st.sampled_from(["k", "l l"]), value=VALUES)
    def keep(self, key: str, value: Any) -> None:
        uri = self.lease.dir.attach_kv(key, value)["resourceUri"]
        self.values[str(uri)] = value

    @invariant()
    def the_table_holds_what_the_model_holds(self) -> None:
        if not hasattr(self, "uri"):
            return
        for uri, value in self.values.items():
            assert json.dumps(self.spool.resources.read(uri)["value"]) == json.dumps(value)
        if self.model is None or not self.uri:
            return
        found = self.spool.resources.query(self.uri, Query())
        assert [_as_text(row) for row in found["rows"]] == [_as_text(row) for row in self.model.rows]
        columns = {c["name"]: (c["type"], c["nullable"]) for c in found["schema"]["columns"]}
        assert columns == {name: (kind, self.model.nullable[name]) for name, kind in self.model.types.items()}

    @rule()
    def end(self) -> None:
        if self.model is not None and not self.spool.get(self.lease.job_id).is_terminal:
            sealed = {a["resourceUri"]: a for a in self.lease.dir.sealed()}
            assert sealed[self.uri]["rowCount"] == len(self.model.rows)


def _as_text(row: dict[str, Any]) -> str:
    return json.dumps(row, sort_keys=True)


def test_a_table_and_its_values_behave_like_a_list_and_a_dictionary() -> None:
    run_state_machine_as_test(Tables, settings=tried(15, stateful_step_count=12))  # type: ignore[no-untyped-call]


# -- queries ----------------------------------------------------------------------------------------

CELLS = (
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.sampled_from([1.0, 0.5, "", "a", "b", "ab"])
    | st.lists(st.integers(0, 2), max_size=2)
)
TABLE = st.lists(st.dictionaries(st.sampled_from(FIELDS), CELLS, max_size=3), max_size=8)
CLAUSE = st.tuples(
    st.sampled_from(FIELDS),
    st.sampled_from(["=", "!=", "<", "<=", ">", ">=", "contains"]),
    CELLS.filter(lambda v: v is not None),
)
WHERE = st.lists(
    CLAUSE
    | st.tuples(st.sampled_from(FIELDS), st.just("in"), st.lists(CELLS.filter(lambda v: v is not None), max_size=3))
    | st.tuples(st.sampled_from(FIELDS), st.just("is-null"), st.booleans()),
    max_size=3,
)
SORT = st.lists(st.tuples(st.sampled_from(FIELDS), st.sampled_from(["asc", "desc"])), max_size=2)


def _kind(value: Any) -> int:
    return next(rank for rank, kinds in enumerate([bool, (int, float), str, (list, dict)]) if isinstance(value, kinds))


def _same(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(_kind(one) == _kind(other) and one == other)


def _holds(row: dict[str, Any], clause: tuple[str, str, Any]) -> bool:
    field, predicate, value = clause
    found = row.get(field)
    match predicate:
        case "is-null":
            return (found is None) is value
        case "=" | "!=":
            return _same(found, value) is (predicate == "=")
        case "in":
            return any(_same(found, item) for item in value)
        case "contains":
            if isinstance(found, list):
                return any(_same(item, value) for item in found)
            return isinstance(found, str) and isinstance(value, str) and value in found
    if found is None or _kind(found) != _kind(value):
        return False
    return bool({"<": found < value, "<=": found <= value, ">": found > value, ">=": found >= value}[predicate])


def _before(one: dict[str, Any], other: dict[str, Any], sort: list[tuple[str, str]]) -> bool:
    for field, direction in sort:
        a, b = one.get(field), other.get(field)
        if _same(a, b):
            continue
        if a is None or b is None:
            return b is None
        rank_a, rank_b = [
            (_kind(v), json.dumps(v, separators=(",", ":")) if isinstance(v, list) else v) for v in (a, b)
        ]
        if rank_a != rank_b:
            return bool(rank_a < rank_b) is (direction == "asc")
    return False


def _ordered(rows: list[dict[str, Any]], sort: list[tuple[str, str]]) -> list[dict[str, Any]]:
    done: list[dict[str, Any]] = []
    for row in rows:
        at = len(done)
        while at and _before(row, done[at - 1], sort):
            at -= 1
        done.insert(at, row)
    return done


@tried(150)
@given(TABLE, WHERE, SORT, st.none() | st.integers(0, 4), st.integers(0, 3))
def test_a_query_gives_what_looking_at_every_row_gives(
    table: list[dict[str, Any]], clauses: Any, sort: Any, limit: int | None, offset: int
) -> None:
    query = Query(clauses, sort, (), limit, offset)
    if isinstance(refused(lambda: query.check(FIELDS)), SpoolError):
        assert any(predicate in ("<", "<=", ">", ">=") and isinstance(value, list) for _, predicate, value in clauses)
        return
    page = Page(iter(table), query)
    found = list(page)
    matching = _ordered([row for row in table if all(_holds(row, clause) for clause in clauses)], sort)
    assert found == matching[offset : None if limit is None else offset + limit]
    assert page.matched == len(matching)


EVERY = [None, False, True, -1, 0, 1, 1.0, 0.5, "", "a", "b", "ab", [], [1], [1.0, "a"], [True]]


@pytest.mark.parametrize("predicate", ["=", "!=", "<", "<=", ">", ">=", "contains", "in"])
def test_a_predicate_tells_the_same_of_any_two_values_as_looking_at_them(predicate: str) -> None:
    for found in EVERY:
        for value in EVERY:
            clause = ("id", predicate, [value] if predicate == "in" else value)
            test = refused(lambda clause=clause: where([clause]))
            if isinstance(test, SpoolError):
                assert value is None or (isinstance(value, list) and predicate in ("<", "<=", ">", ">="))
            else:
                assert test({"id": found}) is _holds({"id": found}, clause), (found, clause)


# -- found ------------------------------------------------------------------------------------------


def test_rows_without_a_key_stay_when_a_key_comes_later(spool: Spool) -> None:
    """The first row tells how keys are read, and one that had none ended in a traceback."""
    spool.submit("t")
    lease = spool.claim("t", "w")
    assert lease is not None
    lease.dir.attach_table("t", [{"a": 1}])
    uri = lease.dir.attach_table("t", [{"id": 1, "a": 2}], write_mode="upsert", key_fields=["id"])["resourceUri"]
    assert spool.resources.query(uri, Query())["rows"] == [{"a": 1}, {"id": 1, "a": 2}]


def test_a_value_whose_file_is_larger_than_its_text_can_be_read(spool: Spool, whole: bool) -> None:
    """The limit is of the text without spaces, and the file has one after each comma."""
    if not whole:
        pytest.skip("takes 20 s and a gigabyte")
    spool.submit("t")
    lease = spool.claim("t", "w")
    assert lease is not None
    value = [1] * 25_000_000
    uri = lease.dir.attach_kv("long", value)["resourceUri"]
    assert len(spool.resources.read(uri)["value"]) == len(value)
