"""KV values of a job: a JSON file each, which may say how long it is kept.

How old a value is, only the file server's clock tells: the age of its file is compared with the ``ttlSeconds`` in it.
So that a sweep finds what is due without looking at all there is, a link to a value that will expire lies in the
minute in which it will (spool/FORMAT.md, section "Artifacts and addresses"). Helper commands need this to start fast.
"""

from __future__ import annotations

import os
import time
from datetime import datetime
from typing import Any

from breyta_spool import durations, files, jsonio, looking, paths
from breyta_spool.addresses import Address
from breyta_spool.errors import Damaged, InvalidInput

LIMIT = 64 << 20
"""The most bytes of a value as JSON text."""
FILE_LIMIT = 2 * LIMIT
"""The most bytes of a value's file, where the text has a space after each comma and colon, and fields beside it."""
LONGEST_TTL = 100 * 365 * 86_400
_LAST_MINUTE = 253_402_300_740
"""That of the year 9999, in seconds since 1970: a file may claim to be of any time."""
_TRIES = 20


def fields(job_id: str, name: str, value: Any, content_type: str, ttl_seconds: int | None) -> dict[str, Any]:
    """What the file of a value holds. The times in it are this host's, for people."""
    now = time.time_ns() // 1_000_000
    return {
        "key": f"job:{job_id}:{name}",
        "value": value,
        "contentType": content_type,
        "createdAt": durations.rfc3339(now),
        "expiresAt": None if ttl_seconds is None else durations.rfc3339(now + ttl_seconds * 1000),
        "ttlSeconds": ttl_seconds,
    }


def write(job_dir: str, address: Address, content: dict[str, Any]) -> None:
    """Put a value where its address says, whole; what had the key before is replaced."""
    path = f"{job_dir}/{address.place}"
    data = jsonio.record(content)
    if content["ttlSeconds"] is None:
        return files.replace(path, data)
    aside = files.aside_of(path)
    files.write_new(aside, data)
    try:
        # The link comes first: a value without one would never be swept. When it is due, the file itself tells.
        link(job_dir, address, looking.modified(aside) + content["ttlSeconds"])
        files.put(aside, path)
    except BaseException:
        files.forget(aside)
        raise
    return None


def link(job_dir: str, address: Address, due: float) -> str:
    """Make the link by which a sweep finds a value that expires at ``due``, in seconds of the file server's clock.

    Gives the path of the link.
    """
    root = job_dir.removesuffix(f"/{paths.job_place(address.job_id)}")
    at = time.strftime("%Y%m%d-%H%M", time.gmtime(min(due, _LAST_MINUTE))).split("-")
    bucket = paths.Tree(root).expiring(*at)
    target = f"../../../{paths.job_place(address.job_id)}/{address.place}"
    for _ in range(_TRIES):
        files.make_dirs(bucket, root, in_spool=True)
        try:
            files.symlink(target, f"{bucket}/{address.id}")
        except FileExistsError:
            pass  # of an earlier value under the same key
        except FileNotFoundError:
            continue  # RACE: a sweep took the bucket away, because it was empty
        return f"{bucket}/{address.id}"
    raise FileNotFoundError(2, "the bucket is removed again and again", bucket)


def load(job_dir: str, address: Address) -> tuple[dict[str, Any], float | None]:
    """The fields of a value's file, and when it expires, in seconds of the file server's clock.

    Raises FileNotFoundError, Damaged.
    """
    path = f"{job_dir}/{address.place}"
    with open(looking.open_below(job_dir, address.place), "rb") as file:
        opened = os.fstat(file.fileno())
        if opened.st_size > FILE_LIMIT:
            raise Damaged(f"{path} has {opened.st_size} bytes; at most {FILE_LIMIT} are expected there", path=path)
        written, data = opened.st_mtime, file.read(FILE_LIMIT)
    try:
        found = jsonio.parse_object(data, path, jsonio.RECORD_DEPTH)
    except InvalidInput as error:
        raise Damaged(error.message, path=path) from None
    if "value" not in found:
        raise Damaged(f"{path} is not the file of a value: it holds none", path=path)
    ttl = ttl_of(found)
    return found, None if ttl is None else written + ttl


def ttl_of(found: dict[str, Any]) -> float | None:
    """How long a value is kept, in seconds from when its file was written; None for as long as the job."""
    ttl = found.get("ttlSeconds")
    if isinstance(ttl, int | float) and not isinstance(ttl, bool):
        return max(0, min(ttl, LONGEST_TTL))  # whatever a handler wrote there
    try:  # written before there was a ttlSeconds: both times are by one clock, so it does not matter by which
        times = [datetime.fromisoformat(str(found[name])) for name in ("createdAt", "expiresAt")]
        return (times[1] - times[0]).total_seconds()
    except (KeyError, ValueError, TypeError):
        return None
