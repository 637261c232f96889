"""Reading a handler's log while it grows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from breyta_spool import looking, paths
from breyta_spool.index import status_in

if TYPE_CHECKING:
    from breyta_spool.spool import Spool

_CHUNK = 1 << 16


class HandlerLog:
    """What the handler of a job wrote: of one attempt, or of the last and those that come after it."""

    def __init__(self, spool: Spool, job_id: str, attempt: int | None) -> None:
        self._job_dir = spool.index.job_dir(job_id)
        self._fixed = attempt
        self._attempt = attempt
        self._offset = 0

    def new(self) -> Iterator[bytes]:
        """What has been written since the last call, in chunks. Raises Damaged for what is no log."""
        if self._fixed is None and (status := status_in(self._job_dir)) and status.attempt != self._attempt:
            self._attempt, self._offset = status.attempt, 0
        try:
            fd = looking.open_below(self._job_dir, f"{paths.attempt_name(self._attempt or 0)}/{paths.LOG}")
        except FileNotFoundError:
            return
        try:
            while chunk := os.pread(fd, _CHUNK, self._offset):
                self._offset += len(chunk)
                yield chunk
        finally:
            os.close(fd)
