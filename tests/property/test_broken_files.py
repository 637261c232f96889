"""Whatever bytes lie in the place of a record, a caller gets an answer or an error of ours, soon."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from breyta_spool import Damaged, Spool, SpoolError
from tests.property import hostile, laws, places, worlds
from tests.property.laws import bounded, refused, tried

SOME = 1
"""Of how many fields and values each record is tried with, at most, without --whole."""


def _ask_everything(world: worlds.Full) -> None:
    asked = refused(lambda: list(worlds.questions(world)))
    for name, ask in asked if isinstance(asked, list) else []:
        if not laws.whole and name in ("await leased", "await batch"):
            continue  # they take as long as all others together
        with bounded():
            try:
                refused(ask)
            except Exception as error:
                error.add_note(f"asked: {name}")
                raise


def _asked_with(full: worlds.Full, name: str, data: bytes) -> None:
    with worlds.scratch() as place:
        world = full.copied(place / "spool")
        path = places.of(world)[name]
        path.write_bytes(data)
        try:
            _ask_everything(world)
        except Exception as error:
            error.add_note(f"{name}: {data[:300]!r}")
            raise


@tried(25)
@given(name=st.sampled_from(places.NAMES), data=st.data())
def test_any_bytes_in_any_place_are_answered_or_refused(full: worlds.Full, name: str, data: Any) -> None:
    _asked_with(full, name, data.draw(hostile.spoiled(places.valid(full, name))))


@pytest.mark.parametrize("name", places.NAMES)
def test_a_record_with_one_odd_field_is_answered_or_refused(full: worlds.Full, name: str) -> None:
    valid = places.valid(full, name)
    fields = _fields(valid)
    cases = [(field, fragment) for field in fields for fragment in hostile.FRAGMENTS]
    chosen = cases if laws.whole else random.Random(name).sample(cases, min(SOME, len(cases)))
    for field, fragment in chosen:
        _asked_with(full, name, hostile.replaced(valid, field, fragment))


@pytest.mark.parametrize("name", places.NAMES)
def test_a_record_that_lacks_a_field_is_answered_or_refused(full: worlds.Full, name: str) -> None:
    fields = _fields(places.valid(full, name))
    gone = list(fields) if laws.whole else random.Random(name).sample(list(fields), min(1, len(fields)))
    for field in gone:
        _asked_with(full, name, json.dumps({k: v for k, v in fields.items() if k != field}).encode() + b"\n")


def _fields(valid: bytes) -> dict[str, Any]:
    try:
        found = json.loads(valid)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


# -- found ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "field", "fragment"),
    [
        ("batch.json", "requestedCount", "9" * 9),
        ("batch.json", "requestedCount", "9" * 30),
        ("worker", "beatMs", "9" * 4000),
        ("key", "sha256", '"\\ud800"'),
        ("queued, job.json", "createdAt", "null"),
        ("ended, kv/summary.json", "ttlSeconds", "1e308"),
        ("ended, kv/summary.json", "ttlSeconds", "-1e308"),
        ("ended, kv/summary.json", "ttlSeconds", "9" * 4000),
        ("ended, tables/findings.table.json", "name", "null"),
        ("ended, tables/findings.table.json", "columns", '{"id": {"type": ["integer"], "nullable": false}}'),
        ("ended, tables/findings.table.json", "columns", '{"id": {"epty": "integer", "nullable": false}}'),
        ("leased, tables/findings.table.json", "columns", '{"id": {"type": ["integer"], "nullable": false}}'),
        ("leased, tables/findings.jsonl", "id", '"\\ud800"'),
        ("leased, claim.json", "leaseMs", "NaN"),
    ],
)
def test_what_once_broke_a_reader_does_not_any_more(full: worlds.Full, name: str, field: str, fragment: str) -> None:
    _asked_with(full, name, hostile.replaced(places.valid(full, name), field, fragment))


@pytest.mark.parametrize("report", ['"message": 5', '"details": []', '"metrics": null'])
def test_an_odd_report_of_a_handler_does_not_hide_its_result(full: worlds.Full, place: Path, report: str) -> None:
    world = full.copied(place / "spool")
    line = f'{{"status": "running", "updatedAt": "2026-11-22T15:30:00.000Z", {report}}}\n'
    with places.of(world)["ended, progress.jsonl"].open("a") as reports:
        reports.write(line)
    job = Spool.open(world.root).get(world.ended)
    assert (job.status, job.outputs) == ("succeeded", {"n": 1})
    assert job.progress is not None
    assert job.progress.message == "nearly"


@pytest.mark.parametrize("fragment", ["5", "null", "{}"])
def test_an_odd_claim_does_not_hide_the_result(full: worlds.Full, place: Path, fragment: str) -> None:
    world = full.copied(place / "spool")
    claim = places.of(world)["ended, claim.json"]
    claim.write_bytes(hostile.replaced(claim.read_bytes(), "workerId", fragment))
    job = Spool.open(world.root).get(world.ended)
    assert (job.status, job.outputs, job.worker_id) == ("succeeded", {"n": 1}, None)


def test_reports_that_are_none_are_passed_over_soon(full: worlds.Full, place: Path) -> None:
    """A million lines that are no report took seconds each time that anybody looked at the job."""
    world = full.copied(place / "spool")
    reports = places.of(world)["ended, progress.jsonl"]
    reports.write_bytes(reports.read_bytes() + b"x\n" * 500_000)
    spool = Spool.open(world.root)
    with bounded(20):
        for _ in range(20):
            assert spool.get(world.ended).status == "succeeded"


def test_a_description_cannot_give_a_resource_to_another_job(full: worlds.Full, place: Path) -> None:
    world = full.copied(place / "spool")
    spool = Spool.open(world.root)
    with places.of(world)["ended, artifacts.jsonl"].open("a") as attached:
        line = {"resourceUri": world.file, "jobId": world.queued, "type": "table", "attempt": 7, "name": "other"}
        attached.write(json.dumps(line) + "\n")
    for told in (spool.resources.get(world.file), *spool.resources.list(type="file", prefix=world.file)):
        assert (told["jobId"], told["type"], told["attempt"], told["name"]) == (world.ended, "file", 1, "report.md")


def test_a_directory_of_no_status_in_the_index_does_not_break_the_overview(full: worlds.Full, place: Path) -> None:
    world = full.copied(place / "spool")
    (world.root / "finished/notes/2026").mkdir(parents=True)
    (world.root / "finished/notes/2026/x").write_text("")
    _ask_everything(world)


def test_a_queued_job_whose_attempts_have_no_more_numbers_is_not_claimed(full: worlds.Full, place: Path) -> None:
    world = full.copied(place / "spool")
    (world.job(world.queued) / "status.queued.0").rename(world.job(world.queued) / "status.queued.999999")
    spool = Spool.open(world.root)
    while lease := spool.claim(worlds.TYPE, "worker-2"):
        assert lease.job_id != world.queued
    assert spool.get(world.queued).attempt == 999_999


def test_numbers_beyond_all_bounds_are_no_json(full: worlds.Full, place: Path) -> None:
    """Python reads 1e999 as infinity, and then printed what no other program reads."""
    world = full.copied(place / "spool")
    path = places.of(world)["queued, job.json"]
    path.write_bytes(hostile.replaced(path.read_bytes(), "metadata", '{"n": 1e999}'))
    with pytest.raises(Damaged, match="too large"):
        Spool.open(world.root).get(world.queued)


def test_a_time_that_has_no_date_is_shown_as_the_last_that_has_one(full: worlds.Full) -> None:
    import os

    with worlds.scratch() as place:
        world = full.copied(place / "spool")
        for path in [*world.root.rglob("*")]:
            try:
                os.utime(path, (2**40, 2**40), follow_symlinks=False)
            except OSError:
                pytest.skip("this file system holds no such time")
        _ask_everything(world)


def test_the_places_are_all_there(full: worlds.Full) -> None:
    assert list(places.of(full)) == sorted(places.of(full), key=list(places.of(full)).index)
    assert set(places.NAMES) == set(places.of(full))
    absent = {name for name, path in places.of(full).items() if not path.exists()}
    assert all("cancel" in name or "leased" in name or name == "revoked" for name in absent), absent


def test_every_question_is_answered_by_a_spool_that_is_whole(full: worlds.Full, place: Path) -> None:
    refusals = {}
    for name, ask in worlds.questions(full.copied(place / "spool")):
        if isinstance(said := refused(ask), SpoolError):
            refusals[name.split()[0]] = said.code
    assert refusals == {"await": "await_bound_reached", "read": "invalid_input"}, refusals
