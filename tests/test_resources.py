from __future__ import annotations

import calendar
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from breyta_spool import Conflict, Damaged, InvalidInput, Lease, NotFound, Spool, SpoolError, addresses, files, querying
from breyta_spool.rows import Query
from breyta_spool.snapshot import OpenTable
from tests.world import age_lease, job_dir

ROWS = [{"finding_id": f"F-{n}", "severity": ("low", "high")[n % 2], "score": n} for n in range(10)]


@pytest.fixture
def lease(spool: Spool) -> Lease:
    spool.submit("t")
    found = spool.claim("t", "w")
    assert found is not None
    return found


def a_file(place: Path, content: bytes = b"# Report\n", name: str = "report.md") -> str:
    path = place / name
    path.write_bytes(content)
    return str(path)


def uri_of(described: dict[str, Any]) -> str:
    return str(described["resourceUri"])


# -- addresses --------------------------------------------------------------------------------------

JOB = "job-01M81Y1Y5CDE3B4WZZ6KYE37BB"


@pytest.mark.parametrize("job_id", [JOB, f"{JOB}-00042"])
@pytest.mark.parametrize("kind", ["file", "kv", "table"])
def test_an_address_is_read_as_it_is_written(job_id: str, kind: str) -> None:
    address = addresses.Address("ws-acme", kind, job_id, 12, "a b.c+d@e:f")
    assert addresses.parse(address.uri) == address
    assert "%20" in address.uri


BAD_ADDRESSES = [
    "", "report.md", f"res://v2/ws/w/file/{JOB}.1.x", f"res://v1/ws/w/files/{JOB}.1.x", f"res://v1/ws//file/{JOB}.1.x",
    f"res://v1/ws/w/file/{JOB}.0.x", f"res://v1/ws/w/file/{JOB}.01.x", f"res://v1/ws/w/file/{JOB}.1.", f"res://v1/ws/w/file/{JOB}.1",
    f"res://v1/ws/w/file/{JOB}.1.../../job.json", f"res://v1/ws/w/file/{JOB}.1.a/b", f"res://v1/ws/w/file/{JOB}.1..hidden",
    f"res://v1/ws/w/file/{JOB}.1.a b", f"res://v1/ws/w/file/{JOB}.1.a%2Fb", f"res://v1/ws/w/file/{JOB}.1.%2e%2e", f"res://v1/ws/w/file/{JOB}.1.x\n",
    f"res://v1/ws/../file/{JOB}.1.x/", f"res://v1/ws/w/file/{JOB.lower()}.1.x", f"res://v1/ws/w/file/{JOB}-1.1.x", f"res://v1/ws/w/result/kv/{JOB}.1." + "x" * 121,
]  # fmt: skip


@pytest.mark.parametrize("uri", BAD_ADDRESSES)
def test_what_is_no_address_is_refused(spool: Spool, uri: str) -> None:
    for operation in (spool.resources.get, spool.resources.read, spool.resources.schema):
        with pytest.raises(InvalidInput, match="not the address of a resource"):
            operation(uri)


# -- get, read --------------------------------------------------------------------------------------


def test_a_resource_is_found_by_its_address_alone(spool: Spool, lease: Lease, tmp_path: Path) -> None:
    file = uri_of(lease.dir.attach_file(a_file(tmp_path)))
    value = uri_of(lease.dir.attach_kv("sum up", {"findings": 2}))
    table = uri_of(lease.dir.attach_table("findings", ROWS, key_fields=["finding_id"]))
    lease.complete()
    for index in ("queued", "leased", "finished"):
        os.rename(f"{spool.root}/{index}", f"{spool.root}/tmp/{index}")
    resources = Spool.open(spool.root).resources
    assert resources.read(file)["content"] == "# Report\n"
    assert resources.read(value)["value"] == {"findings": 2}
    assert resources.query(table, Query())["rows"] == ROWS
    assert resources.get(file)["sizeBytes"] == 9
    assert resources.get(table)["rowCount"] == 10
    assert {item["resourceUri"] for item in resources.list()} == {file, value, table}


def test_a_resource_of_a_job_in_a_batch_is_found(spool: Spool, lease: Lease) -> None:
    uri = uri_of(lease.dir.attach_kv("k", 7))
    batch = job_dir(spool, lease.job_id).with_name(f"batch-{lease.job_id[4:]}")
    batch.mkdir()
    job_dir(spool, lease.job_id).rename(batch / f"{lease.job_id}-00003")
    assert spool.resources.read(uri.replace(lease.job_id, f"{lease.job_id}-00003"))["value"] == 7


def test_each_reason_for_finding_nothing_is_told(spool: Spool, lease: Lease, tmp_path: Path) -> None:
    uri = uri_of(lease.dir.attach_file(a_file(tmp_path)))
    wrong = {
        uri.replace("ws-acme", "ws-other"): "this spool is of ws-acme",
        uri.replace(lease.job_id, JOB): "no such job",
        uri.replace(".1.report", ".2.report"): "has had no attempt 2",
        uri.replace("report", "other"): "no such file",
        uri.replace("/file/", "/result/kv/"): "no such kv",
    }
    for address, says in wrong.items():
        with pytest.raises(NotFound, match=says):
            spool.resources.get(address)
    Path(lease.dir.artifacts, "report.md").unlink()
    with pytest.raises(NotFound, match="was attached, but its file is gone"):
        spool.resources.read(uri)


def test_the_resource_of_a_job_that_was_set_aside_is_said_to_be_gone_with_it(spool: Spool, lease: Lease) -> None:
    uri = uri_of(lease.dir.attach_kv("k", 1))
    (job_dir(spool, lease.job_id) / "job.json").write_text("{")
    age_lease(spool, lease.job_id)
    spool.claims.expire("t")
    with pytest.raises(NotFound, match="has been set aside") as told:
        spool.resources.read(uri)
    assert "lost+found" in told.value.hint


LINKED = ["attempt-1", "attempt-1/artifacts", "attempt-1/artifacts/kv", "attempt-1/artifacts/kv/k.json", ""]


@pytest.mark.parametrize("place", LINKED)
def test_no_link_is_followed_on_the_way_to_a_resource(spool: Spool, lease: Lease, tmp_path: Path, place: str) -> None:
    uri = uri_of(lease.dir.attach_kv("k", 1))
    target = job_dir(spool, lease.job_id) / place if place else job_dir(spool, lease.job_id)
    target.rename(tmp_path / "elsewhere")
    target.symlink_to(tmp_path / "elsewhere")
    assert target.exists()
    with pytest.raises((Damaged, NotFound)):
        spool.resources.read(uri)


def test_a_pipe_or_a_directory_in_place_of_a_file_does_not_keep_a_reader(
    spool: Spool, lease: Lease, tmp_path: Path
) -> None:
    uri = uri_of(lease.dir.attach_file(a_file(tmp_path)))
    path = Path(lease.dir.artifacts, "report.md")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(Damaged, match="not a regular file"):
        spool.resources.read(uri)
    path.unlink()
    path.mkdir()
    with pytest.raises(Damaged, match="not a regular file"):
        spool.resources.read(uri)


def test_text_is_read_in_parts_without_cutting_a_character(spool: Spool, lease: Lease, tmp_path: Path) -> None:
    text = "aé漢😀" * 5
    uri = uri_of(lease.dir.attach_file(a_file(tmp_path, text.encode())))
    found, offset = "", 0
    while offset is not None:
        part = spool.resources.read(uri, offset=offset, limit=7)
        found, offset = found + part["content"], part["nextOffset"]
    assert found == text
    assert spool.resources.read(uri, offset=2, limit=4)["content"] == "漢"
    assert spool.resources.read(uri, offset=10_000)["content"] == ""


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a\0b", b"ok\xc3"], ids=repr)
def test_what_is_not_text_has_no_content_and_is_read_as_bytes(
    spool: Spool, lease: Lease, tmp_path: Path, content: bytes
) -> None:
    uri = uri_of(lease.dir.attach_file(a_file(tmp_path, content)))
    assert spool.resources.read(uri)["content"] is None
    with spool.resources.open(uri) as pieces:
        assert b"".join(pieces) == content


@pytest.mark.parametrize("damage", ["", "[1]", "{}", '{"value": ', '{"value": ' + "[" * 5000])
def test_a_damaged_value_is_said_to_be_damaged(spool: Spool, lease: Lease, damage: str) -> None:
    uri = uri_of(lease.dir.attach_kv("k", 1))
    Path(lease.dir.artifacts, "kv/k.json").write_text(damage)
    with pytest.raises(Damaged):
        spool.resources.read(uri)


# -- list -------------------------------------------------------------------------------------------


def test_a_list_shows_the_newest_job_first_and_pages(spool: Spool) -> None:
    made = []
    for _ in range(3):
        spool.submit("t")
        lease = spool.claim("t", "w")
        assert lease is not None
        made.append([uri_of(lease.dir.attach_kv("k", 1)), uri_of(lease.dir.attach_table("rows", ROWS))])
        lease.complete(artifacts=[{"resourceUri": made[0][0]}, {"resourceUri": "s3://elsewhere"}])
    spool.submit("t")
    found = [item["resourceUri"] for item in spool.resources.list(limit=100)]
    assert found == made[2] + made[1] + made[0]
    assert [item["resourceUri"] for item in spool.resources.list(limit=2, offset=1)] == found[1:3]
    assert [item["resourceUri"] for item in spool.resources.list("kv")] == [pair[0] for pair in reversed(made)]
    assert [item["resourceUri"] for item in spool.resources.list(prefix=made[1][1])] == [made[1][1]]
    assert [item["resourceUri"] for item in spool.resources.list(prefix="res://v1/ws/ws-acme/result/ta")] == found[1::2]
    with pytest.raises(InvalidInput, match="allowed are file, kv, table"):
        spool.resources.list("blob")


def test_a_list_passes_over_what_is_damaged_and_what_lies(spool: Spool, lease: Lease) -> None:
    uri = uri_of(lease.dir.attach_kv("k", 1))
    lease.dir.describe({"resourceUri": uri.replace(lease.job_id, JOB)})
    lease.dir.describe({"resourceUri": ["x"]})
    with open(f"{lease.dir.path}/artifacts.jsonl", "ab") as file:
        file.write(b'{"half')
    broken = spool.submit("t")
    (job_dir(spool, broken) / "status.queued.0").unlink()
    assert [item["resourceUri"] for item in spool.resources.list()] == [uri]


# -- tables -----------------------------------------------------------------------------------------


@pytest.fixture
def table(lease: Lease) -> str:
    return uri_of(lease.dir.attach_table("findings", ROWS, key_fields=["finding_id"]))


def test_a_query_filters_sorts_selects_and_pages(spool: Spool, table: str) -> None:
    query = Query([["severity", "=", "high"]], [["score", "desc"]], ["finding_id"], limit=2, offset=1)
    found = spool.resources.query(table, query)
    assert found["rows"] == [{"finding_id": "F-7"}, {"finding_id": "F-5"}]
    assert found["rowCount"] == 5
    assert found["schema"]["columns"] == [{"name": "finding_id", "type": "string", "nullable": False}]
    page = spool.resources.query(table, Query(limit=3, offset=8))
    assert (page["rows"], page["rowCount"]) == (ROWS[8:], 10)


def test_a_row_is_found_by_its_key(spool: Spool, table: str) -> None:
    assert spool.resources.get_row(table, {"finding_id": "F-3"}) == ROWS[3]
    assert spool.resources.get_row(table, {"severity": "high", "score": 5.0}) == ROWS[5]
    for key, error in (({"finding_id": "F-99"}, NotFound), ({}, InvalidInput), ({"nix": 1}, InvalidInput)):
        with pytest.raises(error):
            spool.resources.get_row(table, key)


def test_rows_that_do_not_count_are_never_seen(spool: Spool, lease: Lease, table: str, tmp_path: Path) -> None:
    with open(f"{lease.dir.artifacts}/tables/findings.jsonl", "ab") as file:
        file.write(b'{"finding_id":"F-X","severity":"high","score":1}\n{"torn')
    assert spool.resources.query(table, Query([["score", ">=", 0]]))["rows"] == ROWS
    assert spool.resources.sql(table, "select count(*) as n from rows")["rows"] == [{"n": 10}]
    assert spool.resources.export(table, str(tmp_path / "o.csv"))["rowCount"] == 10


def test_an_open_table_stays_as_it_is_while_writers_go_on(spool: Spool, lease: Lease, table: str) -> None:
    with OpenTable(lease.dir.job_dir, addresses.parse(table)) as before:
        lease.dir.attach_table("findings", [{"finding_id": "F-1", "severity": "new"}], write_mode="upsert")
        lease.dir.attach_table("findings", [{"finding_id": "F-77"}])
        assert list(before.rows()) == ROWS
        assert list(before.rows()) == ROWS
    assert spool.resources.query(table, Query())["rowCount"] == 11


def test_a_reader_beside_a_writer_always_sees_one_whole_state(spool: Spool, lease: Lease) -> None:
    def state(n: int) -> list[dict[str, Any]]:
        return [{"id": i, "n": n, "pad": "x" * (n % 7)} for i in range(50)]

    uri = uri_of(lease.dir.attach_table("t", state(0), key_fields=["id"]))
    child = os.fork()
    if child == 0:
        for n in range(1, 60):
            lease.dir.attach_table("t", state(n), write_mode="upsert")
        os._exit(0)
    seen = set()
    while not os.waitpid(child, os.WNOHANG)[0]:
        rows = spool.resources.query(uri, Query())["rows"]
        assert rows == state(rows[0]["n"])
        seen.add(rows[0]["n"])
    assert spool.resources.query(uri, Query())["rows"] == state(59)
    assert len(seen) > 1


DAMAGES: list[tuple[str, Callable[[str], str]]] = [
    ("table.json", lambda text: text.replace('"sizeBytes": ', '"sizeBytes": 9')),
    ("table.json", lambda text: text.replace('"rowCount": 10', '"rowCount": -1')),
    ("table.json", lambda text: text.replace('"columns": {', '"columns": [{').replace('}}', '}}]', 1)),
    ("table.json", lambda text: "{"),
    ("table.json", lambda text: "[]"),
    ("jsonl", lambda text: text.replace('"F-4"', '"F-4', 1)),
    ("jsonl", lambda text: text[:-20]),
    ("jsonl", lambda text: text.replace('"score":4}', '[[[[[[[[[}', 1)),
]  # fmt: skip


@pytest.mark.parametrize(("ending", "damage"), DAMAGES, ids=range(len(DAMAGES)))
def test_a_damaged_table_is_said_to_be_damaged(
    spool: Spool, lease: Lease, table: str, ending: str, damage: Any
) -> None:
    path = Path(lease.dir.artifacts, f"tables/findings.{ending}")
    before = path.read_text()
    path.write_text(damage(before))
    assert path.read_text() != before
    with pytest.raises(Damaged):
        spool.resources.query(table, Query([["score", ">=", 0]]))


def test_what_is_no_table_is_not_queried_and_a_table_is_not_text(spool: Spool, lease: Lease, table: str) -> None:
    value = uri_of(lease.dir.attach_kv("k", 1))
    for operation in (lambda: spool.resources.schema(value), lambda: spool.resources.read(table)):
        with pytest.raises(InvalidInput, match="is a (kv|table)"):
            operation()


# -- export -----------------------------------------------------------------------------------------


def test_an_export_holds_what_a_query_finds(spool: Spool, table: str, tmp_path: Path) -> None:
    out = tmp_path / "o.csv"
    told = spool.resources.export(table, str(out), query=Query([["score", "<", 2]], [["score", "desc"]]))
    assert out.read_text() == "finding_id,severity,score\nF-1,high,1\nF-0,low,0\n"
    assert told == {"path": str(out), "format": "csv", "rowCount": 2, "sizeBytes": out.stat().st_size}
    spool.resources.export(table, str(tmp_path / "o.json"), "json")
    assert json.loads((tmp_path / "o.json").read_text()) == ROWS


def test_a_parquet_file_holds_the_table(spool: Spool, lease: Lease, table: str, tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    lease.dir.attach_table("findings", [{"finding_id": "F-big", "score": 2.5, "o'dd \"name": {"a": [1]}, "none": None}])
    out = tmp_path / "it's.parquet"
    spool.resources.export(table, str(out), "parquet")
    found = duckdb.sql(f"select finding_id, score, none from '{str(out).replace(chr(39), chr(39) * 2)}'").fetchall()
    assert found == [(row["finding_id"], row["score"], None) for row in ROWS] + [("F-big", 2.5, None)]
    with pytest.raises(InvalidInput, match="holds the whole table"):
        spool.resources.export(table, str(tmp_path / "part.parquet"), "parquet", Query(limit=1))


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_a_file_that_is_there_stays_unless_it_is_to_be_replaced(
    spool: Spool, table: str, tmp_path: Path, form: str
) -> None:
    out = tmp_path / "out"
    out.write_text("mine")
    with pytest.raises(Conflict, match="already"):
        spool.resources.export(table, str(out), form)
    assert out.read_text() == "mine"
    spool.resources.export(table, str(out), form, overwrite=True)
    assert out.stat().st_size > 50
    assert os.listdir(tmp_path / ".") == sorted(["spool", "out"], reverse=True) or len(os.listdir(tmp_path)) == 2


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_export_that_fails_or_is_killed_leaves_no_half_file(
    spool: Spool, lease: Lease, table: str, tmp_path: Path, overwrite: bool
) -> None:
    from breyta_spool import files

    place = tmp_path / "place"
    place.mkdir()
    if overwrite:
        (place / "o.csv").write_text("mine")
    for step in range(1, 10):
        child = os.fork()
        if child == 0:
            count = 0

            def die(operation: str, path: str, step: int = step) -> None:
                nonlocal count
                count += 1
                if count == step:
                    os._exit(9)

            files.hook = die
            spool.resources.export(table, str(place / "o.csv"), overwrite=overwrite)
            os._exit(0)
        killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        if not killed:
            break
        assert {name for name in os.listdir(place) if name[0] != "."} == ({"o.csv"} if overwrite else set())
    assert step > 2
    assert len((place / "o.csv").read_text().splitlines()) == 11
    Path(lease.dir.artifacts, "tables/findings.jsonl").write_bytes(b'{"score":1}\nbad\n' + b" " * 5000)
    before = sorted(os.listdir(place))
    with pytest.raises(Damaged):
        spool.resources.export(table, str(place / "p.csv"))
    assert sorted(os.listdir(place)) == before


@pytest.mark.parametrize("out", ["nowhere/o.csv", ".", "spool"])
def test_an_export_goes_only_to_a_file_in_a_directory_that_is_there(
    spool: Spool, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match="cannot write to"):
        spool.resources.export(table, out)


def test_an_export_to_a_bare_name_is_written_in_the_current_directory(
    spool: Spool, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert os.path.dirname(files.aside_of("o.csv")) == ""
    spool.resources.export(table, "o.csv")
    assert os.listdir() == ["o.csv"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_export_never_takes_the_place_of_a_device_or_a_pipe(
    spool: Spool, table: str, tmp_path: Path, overwrite: bool
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)
    for out in (pipe, tmp_path / "link"):
        with pytest.raises(InvalidInput, match="a device or a pipe"):
            spool.resources.export(table, str(out), overwrite=overwrite)
    assert pipe.is_fifo()
    assert (tmp_path / "link").is_symlink()


# -- SQL --------------------------------------------------------------------------------------------


def test_sql_answers_with_json_values(spool: Spool, lease: Lease) -> None:
    rows = [{"i": 2**70, "n": 1.5, "s": "2026-01-01", "b": True, "j": {"a": [1]}}, {"i": 1, "j": [None], "new": None}]
    uri = uri_of(lease.dir.attach_table("mixed", rows))
    found = spool.resources.sql(uri, "select *, date '2026-01-02' as d, 1.5::decimal(4, 1) as x from rows")
    assert found["rows"][0] == rows[0] | {"new": None, "d": "2026-01-02", "x": 1.5}
    assert found["rows"][1]["j"] == [None]
    assert found["rowCount"] == 2
    more = "select 1 as a, 2 as a, 'x'::blob as b, [date '2026-01-02'] as l, 'nan'::double as n, {'k': interval 1 day} as s"
    assert spool.resources.sql(uri, more)["rows"] == [
        {"a": 1, "a_2": 2, "b": "78", "l": ["2026-01-02"], "n": None, "s": {"k": "1 day, 0:00:00"}}
    ]


def test_sql_counts_all_rows_and_answers_with_a_page(spool: Spool, table: str) -> None:
    found = spool.resources.sql(table, "select score from rows order by score desc", limit=3)
    assert ([row["score"] for row in found["rows"]], found["rowCount"]) == ([9, 8, 7], 10)


HOSTILE = [
    "select * from read_text('/etc/passwd')", "select * from read_csv('/etc/passwd')", "select * from '/etc/passwd'",
    "select * from glob('/etc/*')", "select * from read_json('/proc/self/environ')", "select * from read_blob('/dev/fd/0')",
    "select * from read_parquet('https://example.org/x.parquet')", "select * from secret", "select getenv('HOME')",
    "copy rows to '/tmp/breyta-test-x'", "attach '/tmp/breyta-test.db' as x", "install httpfs", "load httpfs",
    "set enable_external_access = true", "set lock_configuration = false", "reset memory_limit", "pragma version",
    "export database '/tmp/breyta-test-db'", "create table x as select 1", "drop table rows", "select 1; select 2", "", "nonsense",
    "with x as (select * from read_text('/etc/hostname')) select * from x", "explain analyze select * from read_text('/etc/passwd')",
]  # fmt: skip


@pytest.mark.parametrize("statement", HOSTILE)
def test_sql_sees_nothing_but_the_table_and_changes_nothing(
    spool: Spool, table: str, statement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    with pytest.raises(InvalidInput):
        spool.resources.sql(table, statement)
    assert os.listdir(scratch) == []


def test_columns_that_sql_cannot_tell_apart_are_said_so(spool: Spool, lease: Lease) -> None:
    uri = uri_of(lease.dir.attach_table("t", [{"a": 1, "A": 2, "o'dd\"": 3}]))
    with pytest.raises(InvalidInput, match="'a' and 'A'"):
        spool.resources.sql(uri, "select 1 from rows")
    odd = uri_of(lease.dir.attach_table("odd", [{"o'dd\"": 3}]))
    nameless = uri_of(lease.dir.attach_table("nameless", [{"": 4}]))
    with pytest.raises(InvalidInput, match="no name"):
        spool.resources.sql(nameless, "select 1 from rows")
    assert spool.resources.sql(odd, 'select "o\'dd""" + 1 as n from rows')["rows"] == [{"n": 4}]
    empty = uri_of(lease.dir.attach_table("empty", []))
    assert spool.resources.sql(empty, "select count(*) as n from rows")["rows"] == [{"n": 0}]


def test_without_duckdb_a_person_is_told_what_to_install(
    spool: Spool, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "duckdb", None)
    with pytest.raises(SpoolError, match="not installed") as told:
        spool.resources.sql(table, "select 1")
    assert "breyta-spool[tables]" in told.value.hint


# -- values that expire -----------------------------------------------------------------------------


def age(lease: Lease, name: str, seconds: float) -> None:
    path = f"{lease.dir.artifacts}/kv/{name}.json"
    then = time.time() - seconds
    os.utime(path, (then, then))


def links(spool: Spool) -> list[str]:
    return sorted(path.name for path in Path(spool.root, "expiring").rglob("job-*"))


def due_now(spool: Spool) -> None:
    """Let every link look as if it had been made for a minute long ago."""
    for link in list(Path(spool.root, "expiring").rglob("job-*")):
        bucket = Path(spool.root, "expiring/20200101/0000")
        bucket.mkdir(parents=True, exist_ok=True)
        link.rename(bucket / link.name)


def test_an_expired_value_reads_as_absent_and_is_swept_when_the_attempt_is_over(spool: Spool, lease: Lease) -> None:
    uri = uri_of(lease.dir.attach_kv("k", 1, ttl_seconds=60))
    other = uri_of(lease.dir.attach_kv("other", 2, ttl_seconds=3600))
    (link, _) = links(spool)
    assert link == f"{lease.job_id}.1.k"
    assert spool.resources.read(uri)["value"] == 1
    age(lease, "k", 61)
    with pytest.raises(NotFound, match="has expired"):
        spool.resources.read(uri)
    assert [item["resourceUri"] for item in spool.resources.list()] == [other]
    due_now(spool)
    spool.claims.sweep()
    assert len(links(spool)) == 2, "its helper may write it again: the attempt is under way"
    lease.complete()
    spool.claims.sweep()
    assert links(spool) == [f"{lease.job_id}.1.other"]
    assert os.listdir(f"{lease.dir.artifacts}/kv") == ["other.json"]
    with pytest.raises(NotFound, match="has expired"):
        spool.resources.read(uri)
    assert spool.resources.read(other)["value"] == 2


def test_the_writers_clock_does_not_decide_when_a_value_expires(
    spool: Spool, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time_ns
    for skew in (-10 * 86_400, 10 * 86_400):
        monkeypatch.setattr(time, "time_ns", lambda skew=skew: real() + skew * 10**9)
        uri = uri_of(lease.dir.attach_kv("k", skew, ttl_seconds=3600))
        monkeypatch.setattr(time, "time_ns", real)
        assert spool.resources.read(uri)["value"] == skew
    found = list(Path(spool.root, "expiring").rglob("job-*"))
    assert 1 <= len(found) <= 2, "of the same minute, or of two if one began in between"
    for link in found:
        due = calendar.timegm(time.strptime("".join(link.parts[-3:-1]), "%Y%m%d%H%M"))
        assert abs(time.time() + 3600 - due) < 180
    age(lease, "k", 3601)
    with pytest.raises(NotFound, match="has expired"):
        spool.resources.read(uri)


def test_a_value_that_was_written_again_is_kept_by_its_new_time(spool: Spool, lease: Lease) -> None:
    lease.dir.attach_kv("again", 1, ttl_seconds=60)
    lease.dir.attach_kv("again", 2, ttl_seconds=7200)
    lease.dir.attach_kv("for good", 1, ttl_seconds=60)
    uri = uri_of(lease.dir.attach_kv("for good", 2))
    lease.complete()
    due_now(spool)
    spool.claims.sweep()
    assert links(spool) == [f"{lease.job_id}.1.again"]
    assert not Path(spool.root, "expiring/20200101").exists()
    assert spool.resources.read(uri)["value"] == 2
    assert spool.resources.read(uri.replace("for%20good", "again"))["value"] == 2


def test_a_sweep_looks_only_at_what_is_due(spool: Spool, lease: Lease, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(20):
        lease.dir.attach_kv(f"later-{n}", n, ttl_seconds=86_400 * (1 + n))
    lease.dir.attach_kv("now", 1, ttl_seconds=60)
    lease.complete()
    age(lease, "now", 100)
    (link,) = Path(spool.root, "expiring").rglob("*.now")
    Path(spool.root, "expiring/20200101/0000").mkdir(parents=True)
    link.rename(Path(spool.root, "expiring/20200101/0000", link.name))
    listed: list[str] = []
    real = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(str(path)) or real(path))
    spool.claims.sweep()
    monkeypatch.undo()
    assert len(links(spool)) == 20
    assert len(listed) < 12, listed


def test_odd_things_among_the_links_are_passed_over(spool: Spool, lease: Lease) -> None:
    lease.dir.attach_kv("k", 1, ttl_seconds=60)
    lease.complete()
    bucket = Path(spool.root, "expiring/20200101/0000")
    bucket.mkdir(parents=True)
    (bucket / f"{JOB}.1.gone").symlink_to("nowhere")
    (bucket / "README").write_text("not ours")
    (bucket / f"{lease.job_id}.1.k").symlink_to("/etc/passwd")
    Path(spool.root, "expiring/notes.txt").touch()
    spool.claims.sweep()
    assert os.listdir(bucket) == ["README"]
    assert links(spool) == [f"{lease.job_id}.1.k"]


def test_a_value_from_before_there_was_a_ttl_in_its_file_expires_too(spool: Spool, lease: Lease) -> None:
    uri = uri_of(lease.dir.attach_kv("k", 1, ttl_seconds=60))
    path = Path(lease.dir.artifacts, "kv/k.json")
    fields = json.loads(path.read_text())
    del fields["ttlSeconds"]
    path.write_text(json.dumps(fields))
    assert spool.resources.read(uri)["value"] == 1
    age(lease, "k", 61)
    with pytest.raises(NotFound, match="has expired"):
        spool.resources.read(uri)


@pytest.mark.parametrize("ttl", [0, -1, 10**12])
def test_a_time_to_live_out_of_bounds_is_refused(spool: Spool, lease: Lease, ttl: int) -> None:
    with pytest.raises(InvalidInput, match="ttlSeconds"):
        lease.dir.attach_kv("k", 1, ttl_seconds=ttl)
    assert not Path(spool.root, "expiring").exists()


def test_a_relative_name_is_exported_through_its_own_directory(
    spool: Spool, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    touched: list[str] = []
    files.hook = lambda operation, path: touched.append(path)
    try:
        spool.resources.export(table, "relative.csv")
    finally:
        files.hook = None
    assert touched
    assert {os.path.dirname(path) for path in touched if ".csv" in path} == {str(tmp_path)}


@pytest.mark.parametrize("left", ["link", "pipe", "directory", "no description"])
def test_a_job_ends_whatever_its_handler_has_made_of_its_table(
    spool: Spool, lease: Lease, tmp_path: Path, left: str
) -> None:
    lease.dir.attach_table("rows", ROWS)
    tables = Path(lease.dir.artifacts) / "tables"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes((tables / "rows.jsonl").read_bytes() * 2)
    if left == "no description":
        (tables / "rows.table.json").write_text("{")
    else:
        (tables / "rows.jsonl").unlink()
    if left == "link":
        (tables / "rows.jsonl").symlink_to(elsewhere)
    elif left == "pipe":
        os.mkfifo(tables / "rows.jsonl")
    elif left == "directory":
        (tables / "rows.jsonl").mkdir()
    before = elsewhere.read_bytes()
    job = lease.complete()
    assert (job.status, "sha256" in str(job.artifacts)) == ("succeeded", False)
    assert elsewhere.read_bytes() == before


def test_an_answer_that_is_too_large_is_refused_before_it_fills_the_memory(
    spool: Spool, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(querying, "ANSWER_BYTES", 1 << 20)
    wide = "select range, repeat('x', 10000) as t from range(5000)"
    assert spool.resources.sql(table, wide, limit=10)["rowCount"] == 5000
    with pytest.raises(InvalidInput, match="more than 1048576 bytes"):
        spool.resources.sql(table, wide, limit=None)


@pytest.mark.parametrize("wrong", [-1, 1 << 70, "1", True, 1.5])
def test_a_limit_or_an_offset_that_is_none_is_refused(spool: Spool, table: str, wrong: object) -> None:
    for given in ({"limit": wrong}, {"offset": wrong}):
        with pytest.raises(InvalidInput, match="is not a whole number"):
            spool.resources.list(**given)  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="is not a whole number"):
            spool.resources.read(table, **given)  # type: ignore[arg-type]
