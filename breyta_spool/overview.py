"""What a spool holds at a glance: jobs by type and status, workers, and the room that is left."""

from __future__ import annotations

import os
from typing import Any

from breyta_spool import ids, paths
from breyta_spool.access import JOBS_READ
from breyta_spool.errors import doing
from breyta_spool.spool import Spool


def overview(spool: Spool) -> dict[str, Any]:
    """The spool's settings, jobs by type and list (from the index), damaged ones, workers, free bytes and inodes."""
    spool.access.need(JOBS_READ)
    with doing("look over the spool"):
        return _overview(spool)


def _overview(spool: Spool) -> dict[str, Any]:
    room = os.statvfs(spool.root)
    set_aside = [] if spool.access.limited else spool.index.names(spool.tree.top(paths.LOST_AND_FOUND))
    return {
        "spool": {"path": spool.root, **spool.settings.to_map()},
        "jobs": _counts(spool),
        "setAside": [name for name in set_aside if ids.is_job_id(name)],
        "workers": [worker.to_map() for worker in spool.workers()],
        "disk": {
            "freeBytes": room.f_bavail * room.f_frsize,
            "totalBytes": room.f_blocks * room.f_frsize,
            "freeInodes": room.f_favail,
            "totalInodes": room.f_files,
        },
    }


def _counts(spool: Spool) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for index_list in spool.index.lists():
        kind, _, name = index_list.partition("/")
        status, job_type = (kind, name) if kind != "finished" else name.partition(".")[::2]
        jobs = sum(len(spool.index.names(spool.tree.top(f"{index_list}/{b}"))) for b in spool.index.buckets(index_list))
        if jobs and spool.access.allows(job_type):
            counts.setdefault(job_type, {})[status] = jobs
    return counts
