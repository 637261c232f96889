"""Names to states and back: what a status file's name means and which renames are legal. Pure functions.

The status of a job is the name of one file in its directory (spool/FORMAT.md, section "States"):

>>> parse("status.leased.2.k3f9")
Status(state='leased', attempt=2, token='k3f9')
>>> parse("status.leased.2.k3f9").name
'status.leased.2.k3f9'
>>> parse("status.leased") is None
True
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from breyta_spool.errors import InvalidInput, shown

QUEUED = "queued"
LEASED = "leased"
STARTED = "started"
RUNNING = "running"
SUCCEEDED = "succeeded"
NO_CHANGES = "no_changes"
FAILED = "failed"
CANCELLED = "cancelled"
TIMED_OUT = "timed_out"

ACTIVE = (QUEUED, LEASED, STARTED, RUNNING)
TERMINAL = (SUCCEEDED, NO_CHANGES, FAILED, CANCELLED, TIMED_OUT)
ALL = ACTIVE + TERMINAL
PROGRESS = (LEASED, STARTED, RUNNING)
"""What a worker may report while it holds the lease."""
DONE_WELL = (SUCCEEDED, NO_CHANGES)

COMPLETED = "completed"
PARTIALLY_FAILED = "partially_failed"
BATCH_TERMINAL = (COMPLETED, PARTIALLY_FAILED, FAILED, CANCELLED)
BATCH_ALL = (QUEUED, RUNNING, *BATCH_TERMINAL)

MOST_ATTEMPTS = 999_999
"""The highest number that a status file's name can hold; what submitters may ask for is far below."""

PREFIX = "status."
_NAME = re.compile(
    r"status\.(queued|leased|succeeded|no_changes|failed|cancelled|timed_out)\.(0|[1-9][0-9]{0,5})(?:\.([0-9a-z]{1,32}))?"
)


class Status(NamedTuple):
    """What the name of a status file says; ``token`` is there exactly while the job is leased."""

    state: str
    attempt: int
    token: str = ""

    @property
    def name(self) -> str:
        """The name of the status file."""
        state, attempt, token = self
        return f"{PREFIX}{state}.{attempt}.{token}" if token else f"{PREFIX}{state}.{attempt}"

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended."""
        return self.state in TERMINAL


def parse(name: str) -> Status | None:
    """Read the name of a status file; None when it is not one that this format knows."""
    match = _NAME.fullmatch(name)
    if match is None or (match[1] == LEASED) != (match[3] is not None):
        return None
    return Status(match[1], int(match[2]), match[3] or "")


def is_legal(old: Status, new: Status) -> bool:
    """Whether a job may go from one state to the other by one rename.

    >>> is_legal(parse("status.queued.1"), parse("status.leased.2.k3"))
    True
    >>> is_legal(parse("status.succeeded.1"), parse("status.queued.1"))
    False
    """
    if old.state == QUEUED and new.state == LEASED:
        return new.attempt == old.attempt + 1
    if old.state == QUEUED:
        return new.state == CANCELLED and new.attempt == old.attempt
    if old.state != LEASED:
        return False
    if new.state == LEASED:  # its holder makes sure that nobody else has the token
        return new.attempt == old.attempt and new.token != old.token
    # A claim that is undone before its handler began does not count as an attempt.
    return new.attempt == old.attempt or (new.state == QUEUED and new.attempt == old.attempt - 1)


def after_lost_lease(leased: Status, max_attempts: int, cancel_requested: bool) -> Status:
    """Where a job goes when its lease ran out or was given back (contract: maxAttempts bounds leases).

    >>> after_lost_lease(Status("leased", 1, "k3"), max_attempts=3, cancel_requested=False).name
    'status.queued.1'
    >>> after_lost_lease(Status("leased", 3, "k3"), max_attempts=3, cancel_requested=False).name
    'status.timed_out.3'
    """
    if cancel_requested:
        return Status(CANCELLED, leased.attempt)
    return Status(TIMED_OUT if leased.attempt >= max_attempts else QUEUED, leased.attempt)


def normalise(status: str, allowed: tuple[str, ...] = ALL, *, field: str = "status") -> str:
    """Accept a status as people write it: any case, ``-`` for ``_``. Raises InvalidInput with what is allowed.

    >>> normalise("NO-CHANGES")
    'no_changes'
    """
    word = status.strip().lower().replace("-", "_") if isinstance(status, str) else ""
    if word not in allowed:
        raise InvalidInput(
            f"unknown {field} {shown(status)}: allowed are {', '.join(allowed)}",
            field=field,
            given=status if isinstance(status, str) else shown(status),
            allowed=list(allowed),
        )
    return word


def batch_status(counts: Mapping[str, int]) -> str:
    """The status of a batch from how many of its jobs are in each state (contract, section 1).

    ``counts`` has a number for ``queued``, ``leased`` and each terminal status; what is missing counts as 0.

    >>> batch_status({"queued": 2}), batch_status({"queued": 1, "failed": 1}), batch_status({"succeeded": 2})
    ('queued', 'running', 'completed')
    >>> batch_status({"failed": 1, "cancelled": 1}), batch_status({"failed": 1, "no_changes": 1})
    ('failed', 'partially_failed')
    """
    count = {state: counts.get(state, 0) for state in (QUEUED, LEASED, *TERMINAL)}
    well = sum(count[state] for state in DONE_WELL)
    badly = count[FAILED] + count[TIMED_OUT]
    if count[QUEUED] or count[LEASED]:
        return RUNNING if count[LEASED] or well or badly else QUEUED
    if well and not badly and not count[CANCELLED]:
        return COMPLETED
    if not well:
        return FAILED if badly else CANCELLED
    return PARTIALLY_FAILED


def reported(state: str, progress_status: str | None) -> str:
    """The status a reader sees: while the job is leased, the worker's last report refines it."""
    return progress_status if state == LEASED and progress_status in PROGRESS else state
