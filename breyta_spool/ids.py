"""Ids of jobs and batches: ULIDs, so that an id alone tells when it was made and where its directory is.

A ULID is 48 bits of milliseconds since 1970 and 80 random bits in 26 letters of Crockford's base 32; ids
made one after the other in one process sort in that order.
"""

from __future__ import annotations

import os
import re
import threading
import time
from functools import lru_cache

from breyta_spool.errors import InvalidInput, shown

_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [a + b for a in _LETTERS for b in _LETTERS]
_DIGITS = str.maketrans(_LETTERS, "0123456789abcdefghijklmnopqrstuv")
"""From Crockford's letters to those that ``int`` reads in base 32."""
_ULID = "[0-7][0-9A-HJKMNP-TV-Z]{25}"
ACCOUNT_ID_PATTERN = rf"^sa-{_ULID}$"
KEY_ID_PATTERN = rf"^key-{_ULID}$"
_ULID_ALONE = re.compile(_ULID)
JOB_ID_PATTERN = rf"job-({_ULID})(?:-([0-9]{{5,9}}))?"
BATCH_ID_PATTERN = rf"batch-{_ULID}"
_JOB_ID = re.compile(JOB_ID_PATTERN)
MOST_IN_BATCH = 999_999_999
"""The highest number of a batch's job: those have at most nine digits."""

_lock = threading.Lock()
_last = 0


def _ulid_time(ms: int) -> str:
    return "".join(_LETTERS[ms >> shift & 31] for shift in range(45, -1, -5))


_LAST_TIME = _ulid_time(253_402_300_799_999)
"""The last millisecond of the year 9999, after which a day no longer has eight digits. ULIDs sort as their times do."""


def _start_afresh() -> None:
    """In a forked child: or it would count on from the same number as its siblings."""
    global _last, _lock
    _lock = threading.Lock()
    _last = int.from_bytes(os.urandom(10), "big")


os.register_at_fork(after_in_child=_start_afresh)


def new_ulid() -> str:
    """A new ULID, greater than every one this process made before."""
    global _last
    ms = time.time_ns() // 1_000_000
    with _lock:
        if ms <= _last >> 80:
            value = _last + 1
        else:
            value = ms << 80 | int.from_bytes(os.urandom(10), "big")
        _last = value
    return "".join([_PAIRS[value >> shift & 1023] for shift in range(120, -1, -10)])


def new_job_id() -> str:
    """A new id for a single job, ``job-<ulid>``."""
    return "job-" + new_ulid()


def new_token() -> str:
    """A new lease token: 64 random bits, so that no two leases ever share one."""
    return os.urandom(8).hex()


def new_account_id() -> str:
    """A new id for a service account, ``sa-<ulid>``."""
    return "sa-" + new_ulid()


def new_key_id() -> str:
    """A new id for a service account's key, ``key-<ulid>``."""
    return "key-" + new_ulid()


def is_account_id(text: str) -> bool:
    """Whether the text is the id of a service account."""
    return text.startswith("sa-") and _ULID_ALONE.fullmatch(text[3:]) is not None


def is_key_id(text: str) -> bool:
    """Whether the text is the id of a key."""
    return text.startswith("key-") and _ULID_ALONE.fullmatch(text[4:]) is not None


def is_job_id(text: str) -> bool:
    """Whether the text is a job id: ``job-<ulid>``, or ``job-<ulid>-<number>`` in the batch of that ULID."""
    return _JOB_ID.fullmatch(text) is not None and text[4:14] <= _LAST_TIME


def check_job_id(text: str) -> str:
    """Give the job id back when it is one. Raises InvalidInput; after this the id is safe as a file name."""
    if not isinstance(text, str) or not is_job_id(text):
        raise InvalidInput(
            f"not a job id: {shown(text)}",
            hint="a job id looks like job-01JD0W3Z8Q4X5V6B7N8M9K0P1R; 'breyta jobs list' shows them",
            field="jobId",
        )
    return text


def new_batch_id() -> str:
    """A new id for a batch, ``batch-<ulid>``."""
    return "batch-" + new_ulid()


def is_batch_id(text: str) -> bool:
    """Whether the text is a batch id: ``batch-<ulid>``."""
    return text.startswith("batch-") and len(text) == 32 and is_job_id("job-" + text[6:])


def check_batch_id(text: str) -> str:
    """Give the batch id back when it is one. Raises InvalidInput; after this the id is safe as a file name."""
    if not isinstance(text, str) or not is_batch_id(text):
        raise InvalidInput(
            f"not a batch id: {shown(text)}",
            hint="a batch id looks like batch-01JD0W3Z8Q4X5V6B7N8M9K0P1R; 'breyta jobs batches list' shows them",
            field="batchId",
        )
    return text


def job_in_batch(batch_id: str, number: int) -> str:
    """The id of a batch's job, by its number from 1.

    >>> job_in_batch("batch-01JD0W3Z8Q4X5V6B7N8M9K0P1R", 7)
    'job-01JD0W3Z8Q4X5V6B7N8M9K0P1R-00007'
    """
    return f"job-{batch_id[6:]}-{number:05d}"


def order(job_id: str) -> tuple[str, int, str]:
    """Sorts jobs by when they were made, and the jobs of a batch by their number."""
    return job_id[4:30], len(job_id), job_id


def created_ms(made_id: str) -> int:
    """When the id of a job or batch was made, in milliseconds since 1970 (UTC)."""
    return _milliseconds(made_id.partition("-")[2])


@lru_cache(maxsize=64)
def _day_and_minute(minute: int) -> tuple[str, str]:
    at = time.gmtime(minute * 60)
    return time.strftime("%Y%m%d", at), time.strftime("%H%M", at)


def day_and_minute(made_id: str) -> tuple[str, str]:
    """The UTC day and minute of an id, as its directories are named: ``("20261122", "1530")``."""
    return _day_and_minute(created_ms(made_id) // 60_000)


def bounds(bucket: str) -> tuple[str, str]:
    """The least and the greatest ULID of a bucket, a minute as ``20261122-1530`` or a batch; of no other name any.

    >>> bounds("20261122-1530")
    ('01M81Y1S600000000000000000', '01M81Y3KRZZZZZZZZZZZZZZZZZ')
    """
    if is_batch_id(bucket):
        return bucket[6:], bucket[6:]
    import calendar  # late: helper commands never need it

    try:
        start = calendar.timegm(time.strptime(bucket, "%Y%m%d-%H%M")) * 1000
    except ValueError:
        return "~", ""
    return _ulid_time(start) + "0" * 16, _ulid_time(start + 59_999) + "Z" * 16


def batch_of(job_id: str) -> str | None:
    """The batch a job belongs to, None for a single job."""
    return f"batch-{job_id[4:30]}" if len(job_id) > 30 else None


def _milliseconds(ulid: str) -> int:
    return int(ulid[:10].translate(_DIGITS), 32)
