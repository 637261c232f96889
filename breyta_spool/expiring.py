"""Sweeps values that have expired. What it costs is told by what is due, not by what there is."""

from __future__ import annotations

import time
from contextlib import suppress

from breyta_spool import addresses, files, paths, states, values
from breyta_spool.addresses import Address
from breyta_spool.errors import Damaged, InvalidInput
from breyta_spool.index import Index, status_in


def sweep(index: Index) -> int:
    """Remove the values that have expired, unless their attempt is still under way; gives how many went."""
    top = index.tree.top(paths.EXPIRING)
    days = sorted(index.names(top))
    now = index.now() if days else 0.0
    this_minute = time.strftime("%Y%m%d/%H%M", time.gmtime(now))
    swept = 0
    for day in days:
        if day > this_minute[:8]:
            break
        for minute in sorted(index.names(f"{top}/{day}")):
            if f"{day}/{minute}" > this_minute:
                break
            swept += _sweep_bucket(index, f"{top}/{day}/{minute}", now)
        files.remove_dir_if_empty(f"{top}/{day}")
    return swept


def _sweep_bucket(index: Index, bucket: str, now: float) -> int:
    swept = 0
    for entry in index.names(bucket):
        address = _address_of(entry)
        if address is not None:
            # Who reads the job or the value is told; a directory is no link of ours.
            with suppress(Damaged, IsADirectoryError):
                swept += _sweep_entry(index, f"{bucket}/{entry}", address, now)
    files.remove_dir_if_empty(bucket)
    return swept


def _address_of(entry: str) -> Address | None:
    try:
        return addresses.parse(f"{addresses.PREFIX}any/result/kv/{entry}".replace(" ", "%20"))
    except InvalidInput:
        return None  # none of ours


def _sweep_entry(index: Index, entry: str, address: Address, now: float) -> bool:
    """Remove a value if it has expired, and its link if it is of no use any more; whether the value went."""
    job_dir = index.job_dir(address.job_id)
    status = status_in(job_dir)
    if status is not None and status.state == states.LEASED and status.attempt == address.attempt:
        return False  # RACE: its helper may be writing a new value under that key; the next sweep comes in an hour
    due = _due(job_dir, address) if status is not None else None
    expired = due is not None and due <= now
    if expired:
        files.unlink(f"{job_dir}/{address.place}")
    elif due is not None and values.link(job_dir, address, due) == entry:
        return False  # in this minute, but not yet
    files.unlink(entry)
    return expired


def _due(job_dir: str, address: Address) -> float | None:
    try:
        return values.load(job_dir, address)[1]
    except FileNotFoundError:
        return None
