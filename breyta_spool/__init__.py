"""The Breyta jobs contract on a directory: a job is a directory, its status is the name of one file in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from breyta_spool.errors import (
        AwaitBound,
        Conflict,
        Damaged,
        FormatNotSupported,
        InvalidInput,
        LeaseLost,
        NoSuchSpool,
        NotAllowed,
        NotFound,
        SpoolError,
        StorageError,
    )
    from breyta_spool.lease import Lease
    from breyta_spool.records import Artifact, Attempt, Batch, Job, JobError, Progress, Worker
    from breyta_spool.spool import Spool

__version__ = "0.1.0"

_HOMES = {
    "breyta_spool.spool": ("Spool",),
    "breyta_spool.lease": ("Lease",),
    "breyta_spool.records": ("Artifact", "Attempt", "Batch", "Job", "JobError", "Progress", "Worker"),
    "breyta_spool.errors": (
        "AwaitBound", "Conflict", "Damaged", "FormatNotSupported", "InvalidInput", "LeaseLost",
        "NoSuchSpool", "NotAllowed", "NotFound", "SpoolError", "StorageError",
    ),
}  # fmt: skip
__all__ = [
    "Artifact",
    "Attempt",
    "AwaitBound",
    "Batch",
    "Conflict",
    "Damaged",
    "FormatNotSupported",
    "InvalidInput",
    "Job",
    "JobError",
    "Lease",
    "LeaseLost",
    "NoSuchSpool",
    "NotAllowed",
    "NotFound",
    "Progress",
    "Spool",
    "SpoolError",
    "StorageError",
    "Worker",
]


def __getattr__(name: str) -> Any:
    # Late, so that the helper commands inside a handler never pay for pydantic.
    for home, names in _HOMES.items():
        if name in names:
            import importlib

            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'breyta_spool' has no attribute {name!r}")
