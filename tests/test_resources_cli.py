from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from breyta_spool import Spool
from breyta_spool.handler import write_job_dir
from tests.world import BREYTA, Cli

ROWS = [{"finding_id": f"{n:03}", "severity": ("low", "high")[n % 2]} for n in range(200)]


class Inside:
    """The command line as a handler calls it, inside a job of its own."""

    def __init__(self, spool: Spool, cli: Cli) -> None:
        spool.submit("t")
        lease = spool.claim("t", "w")
        assert lease is not None
        write_job_dir(lease.held, spool.root)
        self.lease, self.cli = lease, cli

    def __call__(self, *args: str, stdin: bytes = b"") -> Any:
        return self.cli("jobs", "worker", *args, stdin=stdin, BREYTA_JOB_DIR=self.lease.dir.work)


@pytest.fixture
def inside(spool: Spool, cli: Cli) -> Inside:
    return Inside(spool, cli)


def lines(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def test_print_uri_prints_the_address_and_nothing_else_and_the_address_leads_back(
    inside: Inside, cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / "a b.md").write_text("héllo\n")
    attached = {
        "file": inside("attach-file", "--file", "a b.md", "--print-uri"),
        "kv": inside("attach-kv", "--label", "sum up", "--field", "n=1", "--ttl-seconds", "600", "--print-uri"),
        "table": inside("attach-table", "--label", "f", "--rows-file", "-", "--print-uri", stdin=lines(ROWS)),
    }
    for kind, answer in attached.items():
        assert (answer.code, answer.stderr, answer.stdout.count("\n")) == (0, "", 1)
        assert cli("resources", "get", answer.stdout.strip()).data["resource"]["type"] == kind
    file, value, table = (answer.stdout.strip() for answer in attached.values())
    read = cli("resources", "read", file).data
    assert (read["content"], read["contentType"]) == ("héllo\n", "text/markdown")
    assert cli("resources", "read", file, "--limit", "2", "--offset", "1").data["content"] == "é"
    assert cli("resources", "read", value).data["value"] == {"n": 1}
    assert cli("resources", "read", table).data["rows"] == ROWS[:100]
    assert cli("resources", "read", table, "--full").data["rows"] == ROWS
    assert cli("resources", "read", file, "--raw").stdout == "héllo\n"
    assert cli("resources", "read", value, "--raw").stdout == '{"n":1}\n'
    assert [json.loads(line) for line in cli("resources", "read", table, "--raw").stdout.splitlines()] == ROWS
    listed = cli("resources", "ls", "--limit", "2")
    assert [item["resourceUri"] for item in listed.data["items"]] == [file, value]
    assert listed.document["meta"] == {"outputView": "compact", "limit": 2, "offset": 0, "more": True}
    (item,) = cli("resources", "list", "--type", "table", "--full").data["items"]
    assert (item["resourceUri"], item["writeMode"], item["name"]) == (table, "append", "f")


def test_what_is_not_text_says_how_to_get_it(inside: Inside, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"\xff\0")
    uri = inside("attach-file", "--file", "x.bin", "--print-uri").stdout.strip()
    answer = cli("resources", "read", uri)
    assert answer.data["content"] is None
    assert "--raw" in answer.document["meta"]["note"]
    raw = subprocess.run(
        [*BREYTA, "resources", "read", uri, "--raw"], capture_output=True, env=cli.environment, check=True
    )
    assert raw.stdout == b"\xff\0"
    assert "leave --limit" in cli("resources", "read", uri, "--raw", "--limit", "1").stderr


def test_a_table_is_queried_and_exported(inside: Inside, cli: Cli, tmp_path: Path) -> None:
    args = ("attach-table", "--label", "f", "--rows-file", "-", "--key-field", "finding_id", "--print-uri")
    uri = inside(*args, stdin=json.dumps(ROWS).encode()).stdout.strip()
    asked = (
        "--where-json",
        '[["severity","=","high"]]',
        "--sort-json",
        '[["finding_id","desc"]]',
        "--select",
        "finding_id",
    )
    answer = cli("resources", "table", "query", uri, *asked, "--limit", "2")
    assert answer.data["rows"] == [{"finding_id": "199"}, {"finding_id": "197"}]
    assert (answer.data["rowCount"], [column["name"] for column in answer.data["schema"]["columns"]]) == (
        100,
        ["finding_id"],
    )
    assert answer.document["meta"] == {"limit": 2, "offset": 0, "returned": 2, "more": True}
    assert len(cli("resources", "table", "query", uri).data["rows"]) == 100
    assert cli("resources", "table", "get-row", uri, "--key", "finding_id=007").data["row"] == ROWS[7]
    assert cli("resources", "table", "get-row", uri, "--key", "finding_id=7").code == 3
    assert cli("resources", "table", "schema", uri).data["schema"]["rowCount"] == 200
    told = cli("resources", "table", "export", uri, "--out", "o.csv", *asked).data["export"]
    assert (told["rowCount"], (tmp_path / "o.csv").read_text().splitlines()[:2]) == (100, ["finding_id", "199"])
    assert told["path"] == str(tmp_path / "o.csv"), "also what is written aside lies there, not at the root"
    again = cli("resources", "table", "export", uri, "--out", "o.csv")
    assert (again.code, again.error["code"]) == (1, "conflict")
    counted = cli("resources", "table", "sql", uri, "select severity, count(*) as n from rows group by 1 order by 1")
    assert counted.data["rows"] == [{"severity": "high", "n": 100}, {"severity": "low", "n": 100}]


WRONG = [
    (("--where-json", "{"), "--where-json is not valid JSON"),
    (("--where-json", '[["x","=",1]]'), "no column 'x'"),
    (("--sort-json", '[["severity","up"]]'), "not a clause of a sort"),
    (("--select", "nix"), "no column 'nix'"),
]


@pytest.mark.parametrize(("args", "says"), WRONG, ids=lambda value: str(value)[:30])
def test_a_wrong_query_is_refused_with_what_is_right(
    inside: Inside, cli: Cli, args: tuple[str, ...], says: str
) -> None:
    uri = inside("attach-table", "--label", "f", "--rows", json.dumps(ROWS[:2]), "--print-uri").stdout.strip()
    answer = cli("resources", "table", "query", uri, *args)
    assert (answer.code, answer.error["code"]) == (2, "invalid_input")
    assert says in answer.error["message"]


@pytest.mark.parametrize("mode", ["append", "upsert"])
@pytest.mark.parametrize("last", ["7", '{"other": 1}', "{", '{"finding_id": 5, "severity": "x"}'], ids=str)
def test_a_bad_row_at_the_end_of_a_stream_leaves_the_table_as_it_was(inside: Inside, mode: str, last: str) -> None:
    keyed = ("attach-table", "--label", "f", "--key-field", "finding_id", "--write-mode", mode, "--rows-file", "-")
    assert inside(*keyed, stdin=lines(ROWS[:3])).code == 0
    tables = Path(inside.lease.dir.artifacts, "tables")
    before = {path.name: path.read_bytes() for path in tables.iterdir()}
    many = b"".join(b'{"finding_id": "%06d", "severity": "%s"}\n' % (n, b"x" * 100) for n in range(20_000))
    answer = inside(*keyed, stdin=many + last.encode())
    assert (answer.code, answer.error["code"]) == (2, "invalid_input")
    assert "20000" in answer.error["message"] or "20001" in answer.error["message"]
    assert {path.name: path.read_bytes() for path in tables.iterdir()} == before


def test_a_stream_is_attached_in_memory_that_does_not_grow_with_it(inside: Inside, tmp_path: Path) -> None:
    """Twice as much memory for the address space as a small table needs, and rows of many times that."""
    with open(tmp_path / "rows.jsonl", "wb") as file:
        for n in range(150_000):
            file.write(b'{"id":%d,"text":"%s"}\n' % (n, b"x" * 2000))
    limit = 200 << 20
    assert (tmp_path / "rows.jsonl").stat().st_size > limit
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "breyta_cli",
            "jobs",
            "worker",
            "attach-table",
            "--label",
            "big",
            "--rows-file",
            "rows.jsonl",
        ],
        cwd=tmp_path,
        env=inside.cli.environment | {"BREYTA_JOB_DIR": inside.lease.dir.work},
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["data"]["artifact"]["rowCount"] == 150_000
    os.unlink(tmp_path / "rows.jsonl")


def test_a_limit_or_an_offset_beyond_all_sizes_is_a_usage_error(inside: Inside, cli: Cli) -> None:
    uri = inside("attach-table", "--label", "f", "--rows", '[{"a": 1}]', "--print-uri").stdout.strip()
    for args in (("list", "--limit"), ("read", uri, "--offset"), ("table", "query", uri, "--limit")):
        answer = cli("resources", *args, str(1 << 64))
        assert (answer.code, "is not in the range" in answer.stderr) == (2, True)
    most = str((1 << 62) - 1)
    assert cli("resources", "table", "query", uri, "--limit", most, "--offset", most).data["rows"] == []
