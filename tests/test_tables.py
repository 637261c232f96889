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

from breyta_spool import Conflict, InvalidInput, files
from breyta_spool.tables import Table, merged_columns, type_of


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
