"""A file that is far too large is refused without being read, and what is read of it needs little memory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from breyta_spool import Damaged, Spool, SpoolError
from tests.property import places, worlds
from tests.property.laws import bounded, refused

HUGE = 2 << 30
MOST_READ = 32 << 20
"""All questions together read a few hundred kilobytes of a whole spool; a part of a list or a log is fine."""
RECORDS = [
    name
    for name in places.NAMES
    if name not in ("ended, handler.log", "ended, tables/findings.jsonl", "leased, handler.log")
]


def _read_so_far() -> int:
    with open("/proc/self/io") as counters:
        return int(next(line for line in counters if line.startswith("rchar")).split()[1])


def _grow(path: Path) -> None:
    with path.open("ab") as file:
        file.truncate(HUGE)


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_of_two_gigabytes_is_refused_without_being_read(full: worlds.Full, place: Path, name: str) -> None:
    world = full.copied(place / "spool")
    _grow(places.of(world)[name])
    before = _read_so_far()
    asked = refused(lambda: list(worlds.questions(world)))
    for question, ask in asked if isinstance(asked, list) else []:
        if "await" not in question:
            with bounded():
                refused(ask)
    assert _read_so_far() - before < MOST_READ


def test_the_rows_of_a_table_are_read_as_far_as_they_count(full: worlds.Full, place: Path) -> None:
    world = full.copied(place / "spool")
    _grow(places.of(world)["ended, tables/findings.jsonl"])
    before = _read_so_far()
    resources = Spool.open(world.root).resources
    with resources.open(world.table) as pieces:
        assert len(b"".join(pieces).splitlines()) == 2
    assert _read_so_far() - before < MOST_READ


def test_a_row_without_an_end_is_not_read_to_it(full: worlds.Full, place: Path) -> None:
    world = full.copied(place / "spool")
    description = places.of(world)["ended, tables/findings.table.json"]
    description.write_text(description.read_text().replace('"sizeBytes": ', f'"sizeBytes": {HUGE}, "was": '))
    rows = places.of(world)["ended, tables/findings.jsonl"]
    rows.write_bytes(b"")
    _grow(rows)
    before = _read_so_far()
    with bounded():
        said = refused(lambda: Spool.open(world.root).resources.get_row(world.table, {"id": 1}))
    assert isinstance(said, Damaged)
    assert _read_so_far() - before < HUGE // 8


def test_a_file_that_has_grown_to_two_gigabytes_is_refused_without_being_read(full: worlds.Full, place: Path) -> None:
    world = full.copied(place / "spool")
    _grow(world.ended_dir / "attempt-1/artifacts/report.md")
    resources = Spool.open(world.root).resources
    before = _read_so_far()
    for limit in (10, None):
        assert isinstance(refused(lambda limit=limit: resources.read(world.file, limit=limit)), SpoolError)
    assert _read_so_far() - before < MOST_READ


def test_a_payload_that_says_it_is_as_large_as_its_file_is_still_bounded(full: worlds.Full, place: Path) -> None:
    world = full.copied(place / "spool")
    job, payload = places.of(world)["queued, job.json"], places.of(world)["queued, payload.json"]
    job.write_text(job.read_text().replace('"payloadBytes": ', f'"payloadBytes": {HUGE}, "was": '))
    _grow(payload)
    assert os.stat(payload).st_size == HUGE
    before = _read_so_far()
    assert isinstance(refused(lambda: Spool.open(world.root).get(world.queued)), Damaged)
    assert _read_so_far() - before < MOST_READ
