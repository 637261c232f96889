"""What is fuzzed: one function for each family of parsers. Each takes bytes, and raises nothing but what it finds."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from breyta_cli import given
from breyta_spool import (
    Spool,
    SpoolError,
    addresses,
    durations,
    ids,
    jsonio,
    outputs,
    paths,
    records,
    results,
    rows,
    states,
    tables,
    waiting,
)
from breyta_spool.helper import Context
from breyta_spool.merging import Merge
from breyta_spool.records import Record

Target = Callable[[bytes], None]
MODELS = [model for model in records.RECORDS.values() if issubclass(model, Record)]


def _text(data: bytes) -> str:
    """Bytes as an argument of a command has them."""
    return data.decode("utf-8", "surrogateescape")


def _value(data: bytes) -> Any:
    try:
        return jsonio.parse(data, "it")
    except SpoolError:
        return _text(data)


def _each(*calls: Callable[[], object]) -> None:
    for call in calls:
        try:
            call()
        except SpoolError:
            pass


def json_text(data: bytes) -> None:
    """JSON at once and as a stream, which must agree."""

    def whole() -> None:
        value = jsonio.parse(data, "it")
        assert jsonio.parse(json.dumps(value, allow_nan=False), "it") == value

    source = io.BytesIO(data)
    _each(whole, lambda: list(jsonio.stream(lambda size: source.read(min(size, 7 + len(data) // 50)), "FILE")))


def record(data: bytes) -> None:
    """Every kind of record from the same bytes."""
    for model in MODELS:
        _each(lambda model=model: json.dumps(records.read_record(model, data, "FILE").to_map(), allow_nan=False))


def lists(data: bytes) -> None:
    """What is kept as lines: reports, artifacts; and a table with its description in the first line."""
    assert all(isinstance(each, dict) for each in outputs.parsed(data))
    first, _, rest = data.partition(b"\n")

    def merged() -> None:
        described = tables.description(first, 1, "FILE", "t")
        assert all(isinstance(column["type"], str | None) for column in described["columns"].values())
        chunks = tables.whole_lines(io.BytesIO(rest), min(described["sizeBytes"], len(rest) + 1), "FILE")
        merge = Merge(described["keyFields"] or ["id"], {b"1": b'{"id":1}'}, "FILE")
        assert b"".join(merge.through(chunks)).count(b"\n") == merge.rows

    _each(merged)


def draft(data: bytes) -> None:
    """The result file of a handler, after a good end and a bad one."""
    for code in (0, 1, -9):
        outcome = results.of_exit(code, data)
        assert outcome.status in states.TERMINAL
        _each(
            lambda outcome=outcome: jsonio.record(
                {"error": outcome.error, "outputs": outcome.outputs, "summary": outcome.summary}
            )
        )


def words(data: bytes) -> None:
    """Ids, names, addresses, durations, times and pairs."""
    text, value = _text(data), _value(data)
    _each(
        lambda: ids.check_job_id(text),
        lambda: ids.check_batch_id(text),
        lambda: paths.check_job_type(text),
        lambda: paths.check_worker_id(text),
        lambda: paths.check_artifact_name(text, "key"),
        lambda: _same(addresses.parse(text).uri, text),
        lambda: durations.milliseconds(text),
        lambda: durations.milliseconds(value),
        lambda: durations.epoch_ms(text),
        lambda: states.normalise(text),
        lambda: given.pairs("x", tuple(text.split("\n"))),
        lambda: waiting.bound(value, text, value, value).pause_ms(500),
    )
    status = states.parse(text)
    assert status is None or status.name == text


def _same(one: str, other: str) -> None:
    assert one == other


ROWS = [{"id": 1, "a": "x"}, {"id": 2.5, "a": None}, {"a": ["x", {"y": 1}]}, {"id": True}]


def query(data: bytes) -> None:
    """A filter, and in a second line a sort, over a few rows."""
    first, _, second = data.partition(b"\n")

    def asked() -> None:
        chosen = rows.Query(jsonio.parse(first, "where"), jsonio.parse(second or b"[]", "sort"), (), 3, 0)
        chosen.check(["id", "a"])
        assert all(row in ROWS for row in rows.Page(ROWS, chosen))

    _each(asked)


class _Spool:
    """A spool with one job that has ended, for what is read through the public face."""

    def __init__(self) -> None:
        self._place = tempfile.TemporaryDirectory(prefix="fuzz-")
        self.spool = Spool.init(f"{self._place.name}/spool", durability="none")
        job = self.spool.submit("t", {"n": 1})
        lease = self.spool.claim("t", "w")
        assert lease is not None
        lease.progress("half")
        self.kv = str(lease.dir.attach_kv("k", 1)["resourceUri"])
        self.table = str(lease.dir.attach_table("t", [{"id": 1}], key_fields=["id"])["resourceUri"])
        lease.complete()
        self.job_id = job.job_id
        self.job = Path(self.spool.tree.job(job.job_id))
        self.whole = {
            path: path.read_bytes() for path in self.job.rglob("*.json*") if path.is_file() and not path.is_symlink()
        }


_made: list[_Spool] = []


def job(data: bytes) -> None:
    """A job of which one file holds the bytes; the first byte says which."""
    if not _made:
        _made.append(_Spool())
    made = _made[0]
    path = sorted(made.whole)[(data[0] if data else 0) % len(made.whole)]
    path.write_bytes(data[1:])
    _each(
        lambda: made.spool.get(made.job_id).to_map(),
        lambda: made.spool.resources.list(),
        lambda: made.spool.resources.get(made.kv),
        lambda: made.spool.resources.get(made.table),
        lambda: made.spool.resources.query(made.table, rows.Query(sort=[["id"]])),
        lambda: _context(made, data),
    )
    path.write_bytes(made.whole[path])
    for status in made.job.glob("status.*"):  # a result that cannot be read was put back to be done again
        status.rename(made.job / "status.succeeded.1")


def _context(made: _Spool, data: bytes) -> None:
    (made.job / "worker-context.json").write_bytes(data[1:])
    Context.load({"BREYTA_JOB_DIR": str(made.job)})


TARGETS: dict[str, Target] = {
    "json": json_text,
    "record": record,
    "lists": lists,
    "draft": draft,
    "words": words,
    "query": query,
    "job": job,
}
