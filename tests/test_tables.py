from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from breyta_spool import Conflict, Damaged, InvalidInput, files
from breyta_spool.columns import merged_columns, type_of
from breyta_spool.tables import Table


def write(place: Path, rows: Any, mode: str = "append", schema: str = "evolve", key: str = "", index: str = "") -> Any:
    return Table(str(place), "t").write(rows, mode, schema, key.split(), index.split())


def rows_in(place: Path) -> list[Any]:
    return [json.loads(line) for line in (place / "t.jsonl").read_text().splitlines()]


def meta_in(place: Path) -> dict[str, Any]:
    meta: dict[str, Any] = json.loads((place / "t.table.json").read_text())
    return meta


def test_append_adds_rows_and_counts_them(tmp_path: Path) -> None:
    write(tmp_path, [{"a": 1}])
    meta = write(tmp_path, [{"a": 2}, {"a": 3}], index="a")
    assert rows_in(tmp_path) == [{"a": 1}, {"a": 2}, {"a": 3}]
    assert meta == meta_in(tmp_path)
    assert (meta["rowCount"], meta["indexFields"]) == (3, ["a"])
    assert meta["sizeBytes"] == (tmp_path / "t.jsonl").stat().st_size


def test_upsert_replaces_by_key_keeps_the_order_and_adds_the_rest(tmp_path: Path) -> None:
    write(tmp_path, [{"id": 1, "s": "low"}, {"id": 2, "s": "low"}], "upsert", key="id")
    meta = write(tmp_path, [{"id": 3, "s": "new"}, {"id": 1, "s": "high"}], "upsert")
    assert rows_in(tmp_path) == [{"id": 1, "s": "high"}, {"id": 2, "s": "low"}, {"id": 3, "s": "new"}]
    assert (meta["rowCount"], meta["keyFields"]) == (3, ["id"])


def test_of_several_rows_with_one_key_in_one_upsert_the_last_counts(tmp_path: Path) -> None:
    write(tmp_path, [{"id": 1, "n": 1}, {"id": 1, "n": 2}], "upsert", key="id")
    assert rows_in(tmp_path) == [{"id": 1, "n": 2}]


def test_keys_of_several_fields_tell_types_apart(tmp_path: Path) -> None:
    write(tmp_path, [{"a": 1, "b": "1"}, {"a": 11, "b": ""}], "upsert", key="a b")
    assert len(rows_in(tmp_path)) == 2


REFUSED = [
    ([{"id": 1}, 7], "append", "", InvalidInput, "row 1 must be an object, not a number"),
    ([{"id": 1}, {"x": 1}], "upsert", "id", InvalidInput, "row 1 has no value for the key field 'id'"),
    ([{"id": None}], "upsert", "id", InvalidInput, "no value for the key field"),
    ([{"id": 1}], "upsert", "", InvalidInput, "upsert needs a key"),
    ([{"id": "text"}], "append", "", InvalidInput, "holds type integer"),
    ([{"id": 1, "x": float("nan")}], "append", "", InvalidInput, "JSON"),
]


@pytest.mark.parametrize(("rows", "mode", "key", "error", "says"), REFUSED, ids=[row[4] for row in REFUSED])
def test_refused_rows_leave_the_table_as_it_was(
    tmp_path: Path, rows: Any, mode: str, key: str, error: type[Exception], says: str
) -> None:
    write(tmp_path, [{"id": 1, "s": "a"}])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(error, match=says):
        write(tmp_path, rows, mode, key=key)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_key_of_a_table_stays(tmp_path: Path) -> None:
    write(tmp_path, [{"id": 1}], "upsert", key="id")
    with pytest.raises(Conflict, match="has the key"):
        write(tmp_path, [{"id": 1}], "upsert", key="other")


def test_the_schema_is_inferred_and_evolves() -> None:
    columns = merged_columns({}, 0, [{"n": 1, "s": "x", "b": True, "j": [1], "u": None}], [], "evolve")
    assert {name: (c["type"], c["nullable"]) for name, c in columns.items()} == {
        "n": ("integer", False),
        "s": ("string", False),
        "b": ("boolean", False),
        "j": ("json", False),
        "u": (None, True),
    }
    wider = merged_columns(columns, 1, [{"n": 1.5, "s": None, "u": "now", "j": {}, "new": 1}], [], "evolve")
    assert {name: (c["type"], c["nullable"]) for name, c in wider.items()} == {
        "n": ("number", False),
        "s": ("string", True),
        "b": ("boolean", True),
        "j": ("json", False),
        "u": ("string", True),
        "new": ("integer", True),
    }
    assert merged_columns(wider, 2, [{"n": 1}], [], "evolve")["n"]["type"] == "number"


def test_strict_refuses_every_change_of_the_schema() -> None:
    columns = merged_columns({}, 0, [{"n": 1, "s": "x"}], [], "strict")
    assert merged_columns(columns, 1, [{"n": 2, "s": "y"}], [], "strict") == columns
    for row in ({"n": 1.5, "s": "y"}, {"n": 1}, {"n": 1, "s": "y", "new": 1}, {"n": None, "s": "y"}):
        with pytest.raises(InvalidInput, match="would change the schema"):
            merged_columns(columns, 1, [row], [], "strict")


VALUES = st.one_of(
    st.none(), st.integers(), st.floats(allow_nan=False), st.booleans(), st.text(), st.lists(st.integers())
)
ROWS = st.lists(st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3), max_size=6)


@given(ROWS, ROWS)
def test_a_merge_accepts_what_it_described_again_without_a_change(first: Any, second: Any) -> None:
    try:
        columns = merged_columns({}, 0, first, [], "evolve")
        columns = merged_columns(columns, len(first), second, [], "evolve")
    except InvalidInput:
        return
    for row in first + second:
        for name, value in row.items():
            kind = type_of(value)
            assert (columns[name]["nullable"] if kind is None else {kind, columns[name]["type"]} <= {"integer", "number"}
                    or kind == columns[name]["type"])  # fmt: skip
    assert merged_columns(columns, len(first + second), first + second, [], "strict") == columns


@pytest.mark.parametrize("mode", ["append", "upsert"])
def test_a_writer_killed_anywhere_leaves_the_old_table_or_the_new(tmp_path: Path, mode: str) -> None:
    old, new = [{"id": 1, "v": "old"}], [{"id": 1, "v": "new"}, {"id": 2, "v": "new"}]
    after = {"append": old + new, "upsert": new}[mode]
    seen = set()
    for step in range(1, 20):
        place = tmp_path / str(step)
        write(place, old, "upsert", key="id")
        child = os.fork()
        if child == 0:
            count = 0

            def die(operation: str, path: str) -> None:
                nonlocal count
                count += 1
                if count == step:
                    os._exit(9)

            files.hook = die
            write(place, new, mode)
            os._exit(0)
        killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        more = [{"id": 9, "v": "later"}]
        meta = write(place, more)  # the next writer mends what was left
        found = rows_in(place)
        assert found in (old + more, after + more), step
        assert meta["rowCount"] == len(found)
        seen.add(len(found))
        if not killed:
            assert found == after + more
            break
    assert len(seen) == 2, "both the old and the new table were seen"


def test_helpers_side_by_side_lose_no_row(tmp_path: Path) -> None:
    program = (
        "import sys; from breyta_spool.tables import Table\n"
        "for n in range(20): Table(sys.argv[1], 't').write([{'id': f'{sys.argv[2]}-{n}'}], 'upsert', 'evolve', ['id'], [])"
    )

    def run(name: int) -> None:
        subprocess.run([sys.executable, "-c", program, str(tmp_path), str(name)], check=True)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(4)))
    assert len(rows_in(tmp_path)) == 80
    assert meta_in(tmp_path)["rowCount"] == 80


def test_an_append_does_not_read_what_is_there(tmp_path: Path) -> None:
    write(tmp_path, [{"a": 1}])
    (tmp_path / "t.jsonl").write_bytes(b"*" * 7 + b"\n")  # as long, and no JSON
    assert write(tmp_path, [{"a": 2}])["rowCount"] == 2
    assert (tmp_path / "t.jsonl").read_bytes() == b'*******\n{"a":2}\n'


@pytest.mark.parametrize("mode", ["append", "upsert"])
def test_rows_may_come_from_an_iterator_and_are_counted(tmp_path: Path, mode: str) -> None:
    table = Table(str(tmp_path), "t")
    rows = ({"id": n % 7000, "pad": "x" * 200} for n in range(10_000))
    meta = table.write(rows, mode, "evolve", ["id"], [])
    assert table.rows_written == 10_000
    assert meta["rowCount"] == len(rows_in(tmp_path)) == (10_000 if mode == "append" else 7_000)


def test_an_iterator_that_fails_leaves_no_table_where_there_was_none(tmp_path: Path) -> None:
    def rows() -> Any:
        for n in range(20_000):
            yield {"id": n, "pad": "x" * 200}
        raise InvalidInput("the source is gone")

    for mode in ("append", "upsert"):
        with pytest.raises(InvalidInput, match="the source is gone"):
            Table(str(tmp_path), "t").write(rows(), mode, "evolve", ["id"], [])
        assert os.listdir(tmp_path) == [".lock"]


def test_rows_do_not_count_when_they_may_not_any_more(tmp_path: Path) -> None:
    def lost() -> None:
        raise Conflict("the lease is lost")

    write(tmp_path, [{"id": 1}], key="id")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for mode in ("append", "upsert"):
        with pytest.raises(Conflict):
            Table(str(tmp_path), "t").write([{"id": 2}], mode, "evolve", [], [], lost)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_of_rows_that_append_left_with_one_key_an_upsert_of_it_leaves_one(tmp_path: Path) -> None:
    write(tmp_path, [{"id": 1, "n": 1}, {"id": 2, "n": 2}, {"id": 1, "n": 3}, {"id": 2, "n": 4}], key="id")
    assert write(tmp_path, [{"id": 1, "n": 9}], "upsert")["rowCount"] == 3
    assert rows_in(tmp_path) == [{"id": 1, "n": 9}, {"id": 2, "n": 2}, {"id": 2, "n": 4}]


KEYS = [
    1,
    0,
    -5,
    10**30,
    1.5,
    "1",
    "a",
    'qu"ote',
    "back\\slash",
    "new\nline",
    "漢",
    "é",
    "",
    "x" * 300,
    True,
    False,
    "true",
    1e300,
]


@pytest.mark.parametrize("lead", ["first", "after", "last", "nested"])
def test_a_key_is_found_whatever_it_is_and_wherever_it_stands(tmp_path: Path, lead: str) -> None:
    def row(key: Any, n: int) -> dict[str, Any]:
        rest = {"s": 'a,"id":1}', "f": -1.5e-7, "b": None}
        other = {"nested": [{"id": 1}]} if lead == "nested" else {}
        return {"first": {"id": key, **rest}, "last": {**rest, "l": [1], "id": key}}.get(
            lead, {**rest, **other, "id": key}
        ) | {"n": n}

    others: dict[type, list[Any]] = {int: [7, 8], float: [0.25, 7.0], str: ["other", 'o"'], bool: []}
    for number, key in enumerate(KEYS):
        place = tmp_path / str(number)
        write(place, [row(each, n) for n, each in enumerate([key, *others[type(key)]])], key="id")
        meta = write(place, [row(key, 99)], "upsert")
        assert meta["rowCount"] == 1 + len(others[type(key)]), key
        assert rows_in(place)[0] == row(key, 99)


def test_a_whole_number_is_the_same_key_with_and_without_a_fraction(tmp_path: Path) -> None:
    write(tmp_path, [{"id": 1}, {"id": 2.0}, {"id": 2.5}], key="id")
    meta = write(tmp_path, [{"id": 1.0, "n": "one"}, {"id": 2, "n": "two"}, {"id": -0.0, "n": "none"}], "upsert")
    assert meta["rowCount"] == 4
    assert [row.get("n") for row in rows_in(tmp_path)] == ["one", "two", None, "none"]


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["x", 'y"', "z"]), st.integers(0, 2)), max_size=12),
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["x", 'y"', "z"]), st.integers(0, 2)), max_size=12),
    st.permutations(["a", "b", "n"]),
)
def test_an_upsert_is_what_a_dictionary_would_do(old: Any, new: Any, order: list[str]) -> None:
    import tempfile

    def rows(given: Any) -> list[dict[str, Any]]:
        return [{name: dict(zip("abn", each, strict=True))[name] for name in order} for each in given]

    with tempfile.TemporaryDirectory() as place:
        write(Path(place), rows(old), "upsert", key="b a")
        write(Path(place), rows(new), "upsert")
        expected = {(row["a"], row["b"]): row for row in [*rows(old), *rows(new)]}
        assert rows_in(Path(place)) == list(expected.values())


def test_an_upsert_of_more_than_may_be_held_in_memory_goes_through_the_table_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from breyta_spool import tables

    monkeypatch.setattr(tables, "BATCH", 3_000)
    write(tmp_path, [{"id": n, "v": 0} for n in range(50)], "upsert", key="id")
    meta = write(tmp_path, [{"id": n % 70, "v": n} for n in range(100)], "upsert")
    assert meta["rowCount"] == 70
    assert rows_in(tmp_path) == [{"id": n, "v": n + 70 if n < 30 else n} for n in range(70)]
    assert sorted(os.listdir(tmp_path)) == [".lock", "t.jsonl", "t.table.json"]


def test_a_row_nested_too_deep_or_with_too_many_columns_is_refused(tmp_path: Path) -> None:
    deep: Any = 1
    for _ in range(250):
        deep = [deep]
    for rows, says in (([{"a": deep}], "nests deeper"), ([{str(n): 1 for n in range(6000)}], "at most 5000 columns")):
        with pytest.raises(InvalidInput, match=says):
            write(tmp_path, rows)
    with pytest.raises(InvalidInput, match="long names"):
        write(tmp_path, [{f"{n:05}" + "x" * 500: 1 for n in range(4500)}])
    assert os.listdir(tmp_path) == [".lock"]


def test_a_description_that_is_damaged_is_said_to_be_and_nothing_is_written(tmp_path: Path) -> None:
    write(tmp_path, [{"a": 1}])
    for damage in (
        "{",
        "[]",
        '{"rowCount": 1}',
        (tmp_path / "t.table.json").read_text().replace('"columns": {', '"columns": 1, "x": {'),
    ):
        (tmp_path / "t.table.json").write_text(damage)
        with pytest.raises(Damaged):
            write(tmp_path, [{"a": 2}])
        assert (tmp_path / "t.jsonl").read_bytes() == b'{"a":1}\n'
