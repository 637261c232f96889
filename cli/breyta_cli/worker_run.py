"""``breyta jobs worker run``."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

import click

from breyta_cli import given, output
from breyta_cli.tree import command
from breyta_spool.errors import InvalidInput

if TYPE_CHECKING:
    from breyta_spool import Spool
    from breyta_spool.handler import Handler
    from breyta_spool.worker import Worker


@command()
@click.option("--type", "job_type", required=True, help="The job type to work on.")
@click.option("--handler", metavar="CMD", help="The program to run for each job, or py:module:function.")
@click.option("--handler-arg", "handler_args", multiple=True, metavar="ARG", help="An argument for it; repeatable.")
@click.option("--worker-id", help="The name of this worker. Default: host-pid.")
@click.option("--batch-id", help="Only jobs of this batch.")
@click.option("--label", "labels", multiple=True, metavar="K=V", help="A label of this worker; repeatable.")
@click.option("--lease-duration", metavar="DURATION", help="How long a lease lasts without a heartbeat. Default: 2m.")
@click.option(
    "--poll-interval", metavar="DURATION", default="5s", show_default=True, help="How often to look for jobs."
)
@click.option("--once", is_flag=True, help="Handle one job if one waits, then exit.")
@click.option("--keep-job-dirs", is_flag=True, help="Keep each job's BREYTA_JOB_DIR.")
@click.option(
    "--concurrency", type=click.IntRange(1, 1000), default=1, show_default=True, help="Jobs at the same time."
)
@click.option("--timeout", metavar="DURATION", help="How long a handler may run. Default: no limit.")
@click.option(
    "--grace",
    metavar="DURATION",
    default="10s",
    show_default=True,
    help="From SIGTERM to SIGKILL of a handler.",
)
@click.option("--quiet", "-q", is_flag=True, help="Do not log jobs that were handled; log what goes wrong.")
@click.argument("command_line", nargs=-1, type=click.UNPROCESSED, metavar="[-- HANDLER [ARG]...]")
def run(command_line: tuple[str, ...], **options: Any) -> None:
    """Claim jobs of a type, run a handler for each, publish the results.

    The handler is a program that finds its job by BREYTA_JOB_DIR and the other BREYTA_ variables. It succeeds by
    exiting with 0. SIGTERM or Ctrl-C: finish what runs and stop. A second one: stop the handlers and give the jobs
    back at once. A Python function (py:module:function) runs inside the worker; it cannot be killed, so it should
    look at job.stopping.

    \b
    Example:
      breyta jobs worker run --type agent-review --handler ./run-agent-review.sh --concurrency 2
      breyta jobs worker run --type resize --once -- python3 resize.py --quality 80
    """
    from breyta_spool import durations
    from breyta_spool.worker import Settings, Worker

    spool = given.spool()
    words = _command(options["handler"], options["handler_args"], command_line)
    timeout = options["timeout"]
    settings = Settings(
        job_type=options["job_type"],
        worker_id=options["worker_id"] or "",
        batch_id=options["batch_id"],
        labels=given.pairs("label", options["labels"]),
        lease=options["lease_duration"],
        poll=_seconds("pollInterval", options["poll_interval"], durations),
        once=options["once"],
        quiet=options["quiet"],
        concurrency=options["concurrency"],
        timeout=None if timeout is None else _seconds("timeout", timeout, durations),
        grace=_seconds("grace", options["grace"], durations, 0),
    )
    handler = _handler(words, spool, options["keep_job_dirs"])
    worker = Worker(spool, handler, settings, _log)
    _stop_on_signals(worker)
    _log(f"worker {worker.worker_id} takes {settings.job_type} jobs from {spool.root} for {handler.name}")
    with redirect_stdout(sys.stderr):  # what a Python handler prints must not spoil the answer
        tally = worker.run()
    last = worker.last_job()
    output.answer(
        {
            "workerId": worker.worker_id,
            "jobType": settings.job_type,
            "handledCount": tally.handled,
            "failedCount": tally.failed,
            "lostCount": tally.lost,
            "givenBackCount": tally.given_back,
            "idlePolls": tally.idle_polls,
            "once": settings.once,
            "lastJob": last.to_map() if last else None,
            "lastJobDir": tally.last_job_dir if options["keep_job_dirs"] else None,
        }
    )


def _seconds(field: str, text: str, durations: Any, least: int = 10) -> float:
    ms: int = durations.milliseconds(text, field=field)
    if ms < least:
        raise InvalidInput(f"{field}: {text} is too short: at least {least}ms", field=field)
    return ms / 1000


def _command(handler: str | None, handler_args: tuple[str, ...], command_line: tuple[str, ...]) -> list[str]:
    if handler is not None and command_line:
        raise click.UsageError(f"give the handler by --handler or after --, not both: {command_line[0]!r} is too much")
    if handler is None and not command_line:
        raise click.UsageError("a worker needs a handler: --handler CMD, or -- CMD ARG..")
    if handler is None and handler_args:
        raise click.UsageError("--handler-arg goes with --handler; after -- write the arguments behind the handler")
    return [handler, *handler_args] if handler is not None else list(command_line)


def _handler(words: list[str], spool: Spool, keep_dirs: bool) -> Handler:
    from breyta_spool.handler import ProcessHandler, PythonHandler, load_function

    if words[0].startswith("py:"):
        if len(words) > 1:
            raise click.UsageError("a handler of the form py:module:function takes no arguments")
        return PythonHandler(load_function(words[0]), words[0], spool.root, keep_dirs)
    program = shutil.which(words[0])
    if program is None:
        hint = "it is there, but not executable: chmod +x it" if os.path.isfile(words[0]) else (
            "the handler is one program: its arguments go into --handler-arg, or write the line after --"
            if " " in words[0]
            else "name a program on PATH or a path such as ./handler.sh"
        )  # fmt: skip
        raise click.UsageError(f"the handler {words[0]!r} is not a program that can be run: {hint}")
    return ProcessHandler([os.path.abspath(program), *words[1:]], _environment(spool), spool.root, keep_dirs)


def _environment(spool: Spool) -> dict[str, str]:
    """The worker's own environment, with what handlers need to call this program on this spool."""
    own = os.path.abspath(sys.argv[0])
    if os.path.basename(own) not in ("breyta", "breyta-spool"):
        own = os.path.join(os.path.dirname(sys.executable), "breyta")
    environment = dict(os.environ)
    environment["PATH"] = os.path.dirname(own) + os.pathsep + environment.get("PATH", os.defpath)
    environment["BREYTA_CLI_BIN"] = own
    environment["BREYTA_SPOOL"] = spool.root
    environment["BREYTA_API_URL"] = _file_url(spool.root)
    environment["BREYTA_WORKSPACE"] = spool.settings.workspace_id
    if key := output.options().get("api_key"):
        environment["BREYTA_API_KEY"] = key  # never as an argument, which everybody can see
    return environment


def _file_url(path: str) -> str:
    from urllib.parse import quote

    return "file://" + quote(path)


def _stop_on_signals(worker: Worker) -> None:
    asking = (signal.SIGTERM, signal.SIGINT)
    signals, told = os.pipe()
    os.set_blocking(told, False)

    def listen() -> None:
        acts = iter((worker.stop, worker.abort))
        while number := os.read(signals, 1):
            if number[0] in asking and (act := next(acts, None)):
                if act == worker.stop:
                    _log("stopping when the running jobs have ended; a second signal gives them back at once")
                act()

    # RACE: of two signals that come before the main thread has looked, Python calls a handler once. The pipe gets each.
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    threading.Thread(target=listen, name="signals", daemon=True).start()
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # a reader of the log that goes away must not end the worker
    for number in asking:
        signal.signal(number, lambda number, frame: None)


def _log(line: str) -> None:
    from breyta_spool.outputs import now

    output.say(f"{now()} {line}")
