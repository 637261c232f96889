"""A claimed job in the hands of whoever claimed it through the library or by the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from breyta_spool import durations, outputs, results, states
from breyta_spool.access import JOBS_WORKER, Access
from breyta_spool.claims import Claims, Held
from breyta_spool.errors import InvalidInput, doing
from breyta_spool.records import Job


class Lease:
    """A claimed job: report progress, attach artifacts, then complete or fail it before the lease runs out."""

    def __init__(self, claims: Claims, read: Callable[[str], Job], held: Held, access: Access) -> None:
        self._claims = claims
        self._read = read
        self.held = held
        self._access = access

    @property
    def job_id(self) -> str:
        """The id of the job."""
        return self.held.job_id

    @property
    def token(self) -> str:
        """The lease token: whoever has it may act for this attempt."""
        return self.held.dir.token

    @property
    def job(self) -> Job:
        """The job, as it is now."""
        return self._read(self.job_id)

    @property
    def dir(self) -> outputs.AttemptDir:
        """The attempt's directory: ``attach_file``, ``attach_kv``, ``attach_table``."""
        self._access.need(JOBS_WORKER, self.held.request.job_type)
        return self.held.dir

    def heartbeat(self, lease: Any = None) -> bool:
        """Renew the lease, optionally with a new duration; whether a cancel was asked for. Raises LeaseLost."""
        self._access.need(JOBS_WORKER, self.held.request.job_type)
        lease_ms = None if lease is None else lease_duration(lease, 0)
        with doing(f"renew the lease of {self.job_id}"):
            return self._claims.renew(self.held.dir, lease_ms)

    def progress(
        self,
        message: str = "",
        *,
        status: str = states.RUNNING,
        details: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        artifacts: Any = None,
    ) -> dict[str, Any]:
        """Report progress, with artifacts made so far, and renew the lease.

        Raises LeaseLost, InvalidInput, StorageError.
        """
        self._access.need(JOBS_WORKER, self.held.request.job_type)
        with doing(f"report progress of {self.job_id}"):
            self._claims.renew(self.held.dir)
            for described in results.as_list(artifacts):
                self.held.dir.describe(described)
            return self.held.dir.report(status, message, dict(details or {}), dict(metrics or {}))

    def complete(
        self,
        *,
        status: str = states.SUCCEEDED,
        summary: str = "",
        outputs: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        artifacts: Any = None,
        worker_info: Mapping[str, Any] | None = None,
    ) -> Job:
        """End the job well (or ``cancelled``). Raises LeaseLost, InvalidInput, StorageError."""
        allowed = (states.SUCCEEDED, states.NO_CHANGES, states.CANCELLED)
        said = {
            "status": states.normalise(status, allowed),
            "summary": summary,
            "outputs": dict(outputs or {}),
            "metrics": dict(metrics or {}),
            "artifacts": artifacts,
            "workerInfo": dict(worker_info or {}),
        }
        return self.finish(results.of_object(said))

    def fail(
        self,
        message: str,
        *,
        code: str = "failed",
        details: Mapping[str, Any] | None = None,
        artifacts: Any = None,
    ) -> Job:
        """End the job as failed. Raises LeaseLost, InvalidInput, StorageError."""
        return self.finish(results.failed(message, code, dict(details or {}), artifacts))

    def finish(self, outcome: results.Outcome) -> Job:
        """End the job with an outcome. Raises LeaseLost, StorageError."""
        self._access.need(JOBS_WORKER, self.held.request.job_type)
        with doing(f"finish {self.job_id}"):
            info = {"workerId": self.held.worker_id} if self.held.worker_id else {}
            self._claims.finish(self.held.dir, self.held.request.job_type, outcome, info)
        return self._read(self.job_id)

    def give_back(self) -> Job:
        """Let go of the job for another worker; the attempt counts. Raises LeaseLost, StorageError."""
        self._access.need(JOBS_WORKER, self.held.request.job_type)
        with doing(f"give {self.job_id} back"):
            self._claims.give_back(self.held.dir, self.held.request.job_type)
        return self._read(self.job_id)


def lease_duration(given: Any, default_ms: int) -> int:
    """A lease duration in milliseconds, from 1 second to 7 days. Raises InvalidInput."""
    lease_ms = default_ms if given is None else durations.milliseconds(given, field="leaseDuration")
    if not 1000 <= lease_ms <= 7 * 86_400_000:
        raise InvalidInput(
            f"leaseDuration: {durations.spoken(lease_ms)} is not between 1s and 7d", field="leaseDuration"
        )
    return lease_ms
