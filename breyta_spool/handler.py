"""One job in the hands of its handler: a process in a group of its own, or a Python function in the worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, Protocol

from breyta_spool import files, ids, jobs, jsonio, looking, owners, paths, results, states
from breyta_spool.claims import Held
from breyta_spool.errors import Damaged, InvalidInput, LeaseLost, SpoolError
from breyta_spool.outputs import AttemptDir
from breyta_spool.results import Outcome

GRACE_SECONDS = 10.0
"""How long a handler has between SIGTERM and SIGKILL."""
SHUTDOWN_GRACE_SECONDS = 2.0
RESULT_LIMIT = 16 << 20
RESULT_FIELDS = frozenset(
    ("status", "summary", "message", "code", "details", "outputs", "metrics", "artifacts", "workerInfo")
)
"""What a Python handler may return; in a result file other fields are ignored, as Breyta's own worker does."""

CANCELLED, LOST, TIMEOUT, SHUTDOWN = "cancelled", "lease lost", "timeout", "shutdown"


class Run:
    """One held lease while its handler runs. ``stop`` may be called by any thread, at any time, more than once."""

    def __init__(self, held: Held, timeout: float | None = None) -> None:
        self.held = held
        self.began = self.renewed = time.monotonic()
        self.deadline = None if timeout is None else self.began + timeout
        self.reason: str | None = None
        self._stopping: threading.Event | None = None
        self._guard = threading.Lock()
        self._kill: Callable[[int], None] | None = None
        self._stopped_at: float | None = None

    @property
    def stopping(self) -> threading.Event:
        """Set when the handler should return; made when first asked for."""
        with self._guard:
            if self._stopping is None:
                self._stopping = threading.Event()
                if self.reason is not None:
                    self._stopping.set()
            return self._stopping

    def stop(self, reason: str, *, now: bool = False) -> None:
        """Ask the handler to end (SIGTERM to its group), or end it ``now`` (SIGKILL). The first reason counts."""
        with self._guard:
            if self.reason is None:
                self.reason = reason
                self._stopped_at = time.monotonic()
            if self._stopping is not None:
                self._stopping.set()
            if self._kill is not None:
                self._kill(signal.SIGKILL if now else signal.SIGTERM)

    def kill_if_overdue(self, grace: float) -> None:
        """End a handler that was asked to and has had its grace, in seconds."""
        patience = min(grace, SHUTDOWN_GRACE_SECONDS) if self.reason == SHUTDOWN else grace
        if self._stopped_at is not None and time.monotonic() - self._stopped_at >= patience:
            self.stop(self.reason or SHUTDOWN, now=True)

    def can_be_killed(self, kill: Callable[[int], None] | None) -> None:
        """Say how to signal the handler, None once it has ended."""
        with self._guard:
            self._kill = kill
            if kill is not None and self.reason is not None:
                kill(signal.SIGTERM)


class Handler(Protocol):
    """What handles jobs: gives the outcome, or None when the run was stopped for a reason of the worker's."""

    name: str
    in_process: bool

    def __call__(self, run: Run) -> Outcome:
        """Handle one job to its end."""
        ...


class ProcessHandler:
    """Runs a program for each job, as a list of arguments and never by a shell.

    ``environment`` is what the worker adds to its own; the job's variables come on top (contract, section 4).
    """

    in_process = False

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], spool_root: str, keep_dirs: bool
    ) -> None:
        self.command = list(command)
        self.name = os.path.basename(self.command[0])
        self._environment = _encoded(environment)  # once: a worker has many variables, and starts many handlers
        self._root = spool_root
        self._keep_dirs = keep_dirs

    def __call__(self, run: Run) -> Outcome:
        """Prepare the job directory, run the program, and read what it left."""
        directory = run.held.dir
        try:
            log = self._prepare(run.held)
        except OSError as error:
            return results.failed(f"cannot prepare the job directory: {error}", results.SETUP_FAILED)
        try:
            return self._run(run, log)
        finally:
            os.close(log)
            path = f"{directory.path}/{paths.LOG}"
            with suppress(OSError):
                if os.stat(path).st_size == 0:
                    files.unlink(path)
            if not self._keep_dirs:
                remove_job_dir(run.held, self._root)

    def _prepare(self, held: Held) -> int:
        directory = held.dir
        write_job_dir(held, self._root)
        return files.open_log(f"{directory.path}/{paths.LOG}")

    def _run(self, run: Run, log: int) -> Outcome:
        held = run.held
        try:
            process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**self._environment, **_encoded(job_environment(held))},
                process_group=0,
            )
        except OSError as error:
            return results.failed(
                f"cannot start {self.command[0]}: {_why_not(self.command[0], error)}", results.START_FAILED
            )
        try:
            held.dir.report(states.STARTED, f"started handler {self.name}", {}, {})
        except LeaseLost:
            run.stop(LOST)
        except OSError:
            pass  # a full disk: the handler runs all the same, and the result will be tried again
        self._wait(run, process)
        try:
            draft = _draft(held.dir.work)
        except (OSError, SpoolError) as error:
            draft = None
            if process.returncode == 0:
                return results.failed(f"result.json cannot be read: {error}", results.INVALID_RESULT)
        return results.of_exit(process.returncode, draft)

    @staticmethod
    def _wait(run: Run, process: subprocess.Popen[bytes]) -> None:
        def kill(number: int) -> None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)

        run.can_be_killed(kill)
        # The process stays a zombie until the group has been told: nobody else can get its number before.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        kill(signal.SIGKILL if run.reason else signal.SIGTERM)
        run.can_be_killed(None)
        process.wait()


def _why_not(program: str, error: OSError) -> str:
    if isinstance(error, FileNotFoundError) and os.path.exists(program):
        return "the interpreter that its first line names is missing"
    return str(error.strerror)


def write_job_dir(held: Held, root: str) -> None:
    """Make BREYTA_JOB_DIR: the job, its payload and the context of the helper commands. Raises OSError."""
    directory, request = held.dir, held.request
    directory.check_place()
    files.make_dirs(directory.path, directory.job_dir)
    files.make_own_dir(directory.work)
    job = {
        **request.to_map(),
        "status": states.LEASED,
        "attempt": directory.attempt,
        "workerId": held.worker_id,
        "batchId": ids.batch_of(held.job_id),
        "payload": jsonio.parse(held.payload, paths.PAYLOAD),
    }
    files.write_new(f"{directory.work}/{paths.JOB}", jsonio.record(job))
    files.write_new(f"{directory.work}/{paths.PAYLOAD}", held.payload)
    context = {
        "jobId": held.job_id,
        "leaseToken": directory.token,
        "resultFile": f"{directory.work}/{paths.RESULT}",
        "attempt": directory.attempt,
        "jobPath": directory.job_dir,
        "workspaceId": directory.workspace,
        "spool": root,
        "jobType": request.job_type,
        "keyId": held.key_id,
    }
    files.write_new(f"{directory.work}/{paths.CONTEXT}", jsonio.record(context), 0o600)


def remove_job_dir(held: Held, root: str) -> None:
    """Remove BREYTA_JOB_DIR, as far as possible; a worker sweeps what is left."""
    with suppress(OSError):
        if not _removed_by_name(held.dir):
            files.remove_tree(held.dir.work, paths.Tree(root).staged(owners.marked(f"work-{ids.new_ulid()}")))


def _removed_by_name(directory: AttemptDir) -> bool:
    """Remove a job directory that holds no other names than every one does; whether it is gone.

    Most are left so, and to take away what has a known name is less than half the work of looking what is there.
    """
    try:
        directory.check_place(f"/{paths.WORK}")  # a handler may have put a link in its place: not ours to empty
        for name in (paths.CONTEXT, paths.JOB, paths.PAYLOAD, paths.RESULT):
            files.unlink(f"{directory.work}/{name}")
    except (OSError, Damaged):
        return False
    return files.remove_dir_if_empty(directory.work)


def job_environment(held: Held) -> dict[str, str]:
    """The variables of one job (contract, section 4); those without a value are there and empty."""
    work, request = held.dir.work, held.request
    values: dict[str, Any] = {
        "BREYTA_WORKER_ID": held.worker_id,
        "BREYTA_JOB_DIR": work,
        "BREYTA_JOB_FILE": f"{work}/{paths.JOB}",
        "BREYTA_JOB_PAYLOAD_FILE": f"{work}/{paths.PAYLOAD}",
        "BREYTA_JOB_RESULT_FILE": f"{work}/{paths.RESULT}",
        "BREYTA_JOB_CONTEXT_FILE": f"{work}/{paths.CONTEXT}",
        "BREYTA_JOB_ID": held.job_id,
        "BREYTA_JOB_TYPE": request.job_type,
        "BREYTA_JOB_BATCH_ID": ids.batch_of(held.job_id),
        "BREYTA_JOB_ATTEMPT": held.dir.attempt,
        "BREYTA_JOB_WORKSPACE_ID": request.workspace_id,
        "BREYTA_JOB_ROOT_WORKFLOW_ID": request.root_workflow_id,
        "BREYTA_JOB_PARENT_STEP_ID": request.parent_step_id,
        "BREYTA_JOB_FANOUT_PARENT_STEP_ID": request.fanout_parent_step_id,
        "BREYTA_JOB_FANOUT_MAX_CONCURRENCY": request.fanout_max_concurrency,
    }
    return {name: "" if value is None else str(value) for name, value in values.items()}


def _encoded(environment: Mapping[str, str]) -> dict[bytes, bytes]:
    return {os.fsencode(name): os.fsencode(value) for name, value in environment.items()}


def _draft(work: str) -> bytes | None:
    try:
        return looking.read(f"{work}/{paths.RESULT}", RESULT_LIMIT)
    except FileNotFoundError:
        return None


class ActiveJob:
    """A job in the hands of a Python handler: what came in, and what may be said about it."""

    def __init__(self, run: Run, root: str) -> None:
        self._run = run
        self._held = run.held
        self._root = root
        self.job_id = run.held.job_id
        self.job_type = run.held.request.job_type
        self.attempt = run.held.dir.attempt
        self.metadata = run.held.request.metadata
        self.attach_file = run.held.dir.attach_file
        self.attach_kv = run.held.dir.attach_kv
        self.attach_table = run.held.dir.attach_table
        self.has_dir = False

    @cached_property
    def payload(self) -> Any:
        """The job's input, as it was submitted."""
        return jsonio.parse(self._held.payload, paths.PAYLOAD)

    @property
    def stopping(self) -> threading.Event:
        """Set when the handler should return soon: cancelled, timed out, lease lost, or the worker stops."""
        return self._run.stopping

    @property
    def dir(self) -> str:
        """A directory for scratch, made when first asked for; the same files in it as a handler program sees."""
        if not self.has_dir:
            self._held.dir.only_here = False  # from there, helper commands may be called
            write_job_dir(self._held, self._root)
            self.has_dir = True
        return self._held.dir.work

    def progress(
        self,
        message: str = "",
        *,
        details: dict[str, Any] | None = None,
        metrics: dict[str, Any] | None = None,
    ) -> None:
        """Report progress. Raises LeaseLost, InvalidInput."""
        self._held.dir.report(states.RUNNING, message, details or {}, metrics or {})


class PythonHandler:
    """Calls a function for each job, in the worker itself: no process, no job directory unless it asks for one.

    The function takes an ActiveJob and returns None or an object like result.json's; an exception fails the job.
    A function cannot be killed: when the job is to stop, ``stopping`` is set and the function must look.
    """

    in_process = True

    def __init__(
        self, function: Callable[[ActiveJob], Any], name: str, spool_root: str, keep_dirs: bool = False
    ) -> None:
        self._function = function
        self.name = name
        self._root = spool_root
        self._keep_dirs = keep_dirs

    def __call__(self, run: Run) -> Outcome:
        """Call the function and turn what it returns or raises into an outcome."""
        job = ActiveJob(run, self._root)
        run.held.dir.only_here = True
        try:
            said = self._function(job)
            if said is None:
                return results.EXITED_WELL
            if not isinstance(said, dict):
                return results.failed(
                    f"the handler returned {jsonio.kind_of(said)}, not an object or None",
                    results.INVALID_RESULT,
                )
            jsonio.compact(said, "the handler's result")
            if unknown := set(said) - RESULT_FIELDS:
                return results.failed(
                    f"the handler returned unknown fields: {', '.join(sorted(map(str, unknown)))}; "
                    f"what a flow shall see goes into outputs",
                    results.INVALID_RESULT,
                )
            return results.of_object(said)
        except InvalidInput as error:
            return results.failed(error.message, results.INVALID_RESULT)
        except LeaseLost:
            run.stop(LOST)
            return results.failed("lease lost", LOST)
        except SystemExit as error:  # as if it were a program of its own
            if not error.code:
                return results.EXITED_WELL
            status = error.code if isinstance(error.code, int) else 1
            message = str(error.code) if status != error.code else f"handler exited with status {status}"
            return results.failed(message, results.HANDLER_FAILED, {"exitCode": status})
        except Exception as error:
            self._log(run)
            return results.failed(
                f"{type(error).__name__}: {error}",
                results.HANDLER_FAILED,
                {"exception": type(error).__name__},
            )
        finally:
            if job.has_dir and not self._keep_dirs:
                remove_job_dir(run.held, self._root)

    @staticmethod
    def _log(run: Run) -> None:
        import traceback

        with suppress(OSError, SpoolError):
            run.held.dir.append(paths.LOG, traceback.format_exc().encode(errors="replace"))


def load_function(reference: str) -> Callable[[ActiveJob], Any]:
    """The function of ``py:module:function``, found as ``python -m`` would, from the current directory.

    Raises InvalidInput.
    """
    import importlib

    _, _, rest = reference.partition(":")
    module_name, _, function_name = rest.partition(":")
    if not module_name or not function_name:
        raise InvalidInput(f"{reference!r} is not py:module:function", field="handler")
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
        for part in function_name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise InvalidInput(
            f"cannot load {reference}: {error}",
            hint="the module is looked for from the current directory, like 'python -m' does",
            field="handler",
        ) from error
    if not callable(found):
        raise InvalidInput(f"{reference} is not a function", field="handler")
    function: Callable[[ActiveJob], Any] = found
    return function


def worker_info(held: Held, handler: str, host: str) -> dict[str, Any]:
    """The ``workerInfo`` of a result."""
    return {"workerId": held.worker_id, "handler": handler, "pid": os.getpid(), "host": host}


def stopped_outcome(run: Run, outcome: Outcome, timeout: float | None) -> Outcome:
    """The outcome of a handler that was stopped: what the reason says, with the artifacts it has left."""
    if run.reason == CANCELLED:
        message = jobs.cancel_message(run.held.dir.job_dir)
        error = {"message": message, "code": results.CANCELLED, "details": {}}
        return Outcome(states.CANCELLED, message, artifacts=outcome.artifacts, error=error)
    if run.reason == TIMEOUT:
        return results.failed(
            f"handler exceeded its timeout of {timeout:g}s and was stopped",
            results.HANDLER_TIMEOUT,
            {"timeoutSeconds": timeout},
            outcome.artifacts,
        )
    return outcome
