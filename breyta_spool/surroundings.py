"""What must hold of everything in a spool beside its jobs: tmp/, lost+found/, workers, accounts, idempotency keys."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

from breyta_spool import ids, jobs, looking, owners, paths
from breyta_spool.claims import LEFTOVER_SECONDS
from breyta_spool.errors import Damaged
from breyta_spool.index import Index
from breyta_spool.invariants import Problem, Rules, link_target
from breyta_spool.records import AccountRecord, KeyRecord, Record, Worker, read_record

_WHY = ".why.txt"


def set_aside(index: Index) -> frozenset[str]:
    """The ids of the jobs that were set aside because they were damaged."""
    names = index.names(index.tree.top(paths.LOST_AND_FOUND))
    return frozenset(job_id for name in names if ids.is_job_id(job_id := name.partition(".")[0]))


def problems(rules: Rules) -> Iterator[Problem]:
    """What is wrong beside the jobs. Raises OSError."""
    names = set(rules.index.names(rules.tree.root))
    yield from (
        Problem("top-missing", f"{name}/", name, "the directory is missing") for name in paths.TOP if name not in names
    )
    yield from _in_tmp(rules)
    yield from _workers(rules)
    yield from _lost_and_found(rules)
    if rules.contents:
        yield from _idempotency(rules)
        yield from _accounts(rules)


def _in_tmp(rules: Rules) -> Iterator[Problem]:
    for name in looking.names_if_any(rules.tree.top("tmp")):
        with suppress(FileNotFoundError):
            made = os.lstat(rules.tree.staged(name)).st_mtime
            if owners.has_died(name):
                yield Problem("left-in-tmp", name, f"tmp/{name}", "the process that made it is dead")
            elif rules.now - made > LEFTOVER_SECONDS:
                yield Problem("left-in-tmp", name, f"tmp/{name}", "it is more than a day old")


def _workers(rules: Rules) -> Iterator[Problem]:
    for name in rules.index.names(rules.tree.top("workers")):
        place = f"workers/{name}"
        with suppress(FileNotFoundError):
            try:
                worker = read_record(Worker, looking.read(rules.tree.top(place), jobs.RECORD_LIMIT), place)
            except Damaged as error:
                yield Problem("worker-dead", name, place, error.message)
                continue
            silent = rules.now - looking.modified(rules.tree.top(place))
            if silent > 3 * worker.beat_ms / 1000:
                yield Problem("worker-dead", worker.worker_id, place, "it has given no sign of life for three beats")


def _lost_and_found(rules: Rules) -> Iterator[Problem]:
    for name in rules.index.names(rules.tree.top(paths.LOST_AND_FOUND)):
        if not name.endswith(_WHY):
            yield Problem("set-aside", name, f"{paths.LOST_AND_FOUND}/{name}", "it was set aside")


def _idempotency(rules: Rules) -> Iterator[Problem]:
    for prefix in rules.index.names(rules.tree.top(paths.IDEMPOTENCY)):
        for name in rules.index.names(f"{rules.tree.top(paths.IDEMPOTENCY)}/{prefix}"):
            place = f"{paths.IDEMPOTENCY}/{prefix}/{name}"
            with suppress(FileNotFoundError):
                target = link_target(rules.tree.top(place))
                job_id = target.rpartition("/")[2]
                if not ids.is_job_id(job_id) or target != paths.key_target(job_id):
                    yield Problem("key-wrong", name, place, "it is no link to the place of a job")


def _accounts(rules: Rules) -> Iterator[Problem]:
    for name in rules.index.names(rules.tree.top(paths.ACCOUNTS)):
        place = f"{paths.ACCOUNTS}/{name}"
        found = looking.names_if_any(rules.tree.top(place))
        revision = paths.latest_revision(found)
        if ids.is_account_id(name) and revision:
            yield from _record(rules, AccountRecord, name, f"{place}/{paths.account_revision(revision)}")
        elif ids.is_key_id(name) and paths.KEY in found:
            yield from _record(rules, KeyRecord, name, f"{place}/{paths.KEY}")
        elif not ids.is_account_id(name) and not ids.is_key_id(name):
            yield Problem("foreign", name, place, "it is neither an account nor a key")


def _record(rules: Rules, model: type[Record], name: str, place: str) -> Iterator[Problem]:
    try:
        read_record(model, looking.read(rules.tree.top(place), jobs.RECORD_LIMIT), place)
    except FileNotFoundError:
        pass
    except Damaged as error:
        yield Problem("account-damaged", name, place, error.message)
