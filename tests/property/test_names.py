"""No text that somebody gives as a name leads out of the spool, whatever it is given for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from breyta_spool import (
    Conflict,
    Damaged,
    InvalidInput,
    LeaseLost,
    NotAllowed,
    NotFound,
    Spool,
    SpoolError,
    StorageError,
)
from breyta_spool.logs import HandlerLog
from tests.property import laws, worlds
from tests.property.hostile import NAME, NAMES
from tests.property.laws import bounded, refused, tried
from tests.property.watch import strays

Use = Callable[[Spool, worlds.Full, Any], object]


def _attached(spool: Spool, world: worlds.Full) -> Any:
    return spool.lease(world.leased, world.token).dir


USES: dict[str, Use] = {
    "job id, get": lambda spool, world, text: spool.get(text),
    "job id, await": lambda spool, world, text: spool.await_job(text, timeout="1ms"),
    "job id, cancel": lambda spool, world, text: spool.cancel(text),
    "job id, retry": lambda spool, world, text: spool.retry(text),
    "job id, lease": lambda spool, world, text: spool.lease(text, "x"),
    "job id, before": lambda spool, world, text: spool.list(before=text),
    "batch id, get": lambda spool, world, text: spool.get_batch(text),
    "batch id, list": lambda spool, world, text: spool.list(batch_id=text),
    "batch id, cancel": lambda spool, world, text: spool.cancel_batch(text),
    "batch id, claim": lambda spool, world, text: spool.claim(worlds.TYPE, "w", batch_id=text),
    "batch id, before": lambda spool, world, text: spool.list_batches(before=text),
    "job type, submit": lambda spool, world, text: spool.submit(text),
    "job type, batch": lambda spool, world, text: spool.submit_batch(text, [{}]),
    "job type, claim": lambda spool, world, text: spool.claim(text, "w"),
    "job type, list": lambda spool, world, text: spool.list(text),
    "job type, batches": lambda spool, world, text: spool.list_batches(text),
    "worker id": lambda spool, world, text: spool.claim(worlds.TYPE, text),
    "token": lambda spool, world, text: spool.lease(world.leased, text).complete(),
    "label of a kv": lambda spool, world, text: _attached(spool, world).attach_kv(text, 1),
    "key of a kv": lambda spool, world, text: _attached(spool, world).attach_kv("x", 1, key=text, ttl_seconds=60),
    "label of a table": lambda spool, world, text: _attached(spool, world).attach_table(text, [{"id": 1}]),
    "name of a table": lambda spool, world, text: _attached(spool, world).attach_table("x", [{"id": 1}], table=text),
    "label of a file": lambda spool, world, text: _attached(spool, world).attach_file(__file__, label=text),
    "address, get": lambda spool, world, text: spool.resources.get(text),
    "address, read": lambda spool, world, text: spool.resources.read(text),
    "address, schema": lambda spool, world, text: spool.resources.schema(text),
    "prefix": lambda spool, world, text: spool.resources.list(prefix=text),
    "account": lambda spool, world, text: spool.accounts.get(text),
    "account, update": lambda spool, world, text: spool.accounts.update(text, name="x"),
    "account, key": lambda spool, world, text: spool.accounts.create_key(text),
    "key": lambda spool, world, text: spool.accounts.revoke_key(world.account, text),
    "api key": lambda spool, world, text: Spool.open(world.root, text or "x").list(),
    "idempotency key": lambda spool, world, text: spool.submit(worlds.TYPE, idempotency_key=text),
    "type of an account": lambda spool, world, text: spool.accounts.create("x", ["jobs.read"], job_types=[text]),
}
REFUSALS = (InvalidInput, NotFound, Damaged, NotAllowed, LeaseLost, Conflict)


@pytest.fixture(scope="module")
def one(full: worlds.Full, tmp_path_factory: pytest.TempPathFactory) -> worlds.Full:
    return full.copied(tmp_path_factory.mktemp("names") / "spool")


def _stays(one: worlds.Full, use: str, text: Any) -> None:
    spool = Spool.open(one.root)
    with strays(one.root) as found, bounded():
        said = refused(lambda: USES[use](spool, one, text))
    assert not isinstance(said, SpoolError) or isinstance(said, REFUSALS), said
    assert not isinstance(said, StorageError)
    assert [stray for stray in found if __file__ not in stray] == []


@pytest.mark.parametrize("use", USES)
def test_a_hostile_name_stays_inside(one: worlds.Full, use: str) -> None:
    for text in NAMES:
        _stays(one, use, text)


@tried(60)
@given(use=st.sampled_from(sorted(USES)), text=NAME)
def test_any_name_stays_inside(one: worlds.Full, use: str, text: str) -> None:
    _stays(one, use, text)


@pytest.mark.parametrize(
    "text", [name for name in NAMES if name and "/" not in name and "\0" not in name and len(name) < 60]
)
def test_a_file_of_any_name_is_attached_inside_or_refused(full: worlds.Full, place: Path, text: str) -> None:
    if text in (".", ".."):
        return
    world = full.copied(place / "spool")
    file = place / "given" / text
    file.parent.mkdir()
    try:
        file.write_text("x")
    except (OSError, UnicodeEncodeError):
        return  # no file can have that name
    spool = Spool.open(world.root)
    with strays(world.root) as found:
        said = refused(lambda: _attached(spool, world).attach_file(str(file)))
    assert [stray for stray in found if str(file.parent) not in stray and repr(str(file))[1:-1] not in stray] == []
    if not isinstance(said, SpoolError):
        assert spool.resources.read(said["resourceUri"])["content"] == "x"


def test_the_log_of_an_attempt_that_is_none_is_empty(full: worlds.Full) -> None:
    assert list(HandlerLog(Spool.open(full.root), full.ended, 7).new()) == []
    assert laws.PATIENCE
