"""``breyta jobs worker state/progress/finish/fail``: called by handlers, so they start fast."""

from __future__ import annotations

import os
from typing import Any

import click

from breyta_cli import given, output
from breyta_cli.tree import command
from breyta_spool import states
from breyta_spool.errors import InvalidInput
from breyta_spool.helper import Context, local_state


@command()
@click.option("--job-dir", metavar="DIR", help="The job directory. Default: BREYTA_JOB_DIR.")
def state(job_dir: str | None) -> None:
    """Show the job, payload and draft result in a job directory; lease tokens are redacted.

    \b
    Example:
      breyta jobs worker state
    """
    directory = job_dir or os.environ.get("BREYTA_JOB_DIR")
    if not directory:
        raise InvalidInput("which job? BREYTA_JOB_DIR is not set", hint="give --job-dir DIR, or call it in a handler")
    if key := given.api_key():
        Context.load({"BREYTA_JOB_DIR": directory}).check_key(key)
    output.answer(local_state(directory))


@command()
@click.option("--status", default=states.RUNNING, show_default=True, help="leased, started or running.")
@click.option("--message", default="", help="What is going on, for people.")
@click.option("--detail", "detail", multiple=True, metavar="K=V", help="A detail; repeatable.")
@click.option("--metric", "metric", multiple=True, metavar="K=V", help="A number; repeatable.")
@given.json_option("details", "An object with details.")
@given.json_option("metrics", "An object with numbers.")
def progress(
    status: str,
    message: str,
    detail: tuple[str, ...],
    metric: tuple[str, ...],
    details: dict[str, Any],
    metrics: dict[str, Any],
) -> None:
    """Report progress.

    \b
    Example:
      breyta jobs worker progress --status running --message "Reviewing $surface" --metric done=3
    """
    report = given.context().dir.report(
        status,
        message,
        details | given.pairs("detail", detail),
        metrics | given.pairs("metric", metric),
    )
    output.answer({"progress": report})


@command()
@click.option("--status", default=states.SUCCEEDED, show_default=True, help="succeeded, no_changes or cancelled.")
@click.option("--summary", default="", help="The result in a sentence.")
@click.option("--output", "output_", multiple=True, metavar="K=V", help="A fact a flow branches on; repeatable.")
@given.json_option("outputs", "An object with such facts.")
@click.option("--metric", "metric", multiple=True, metavar="K=V", help="A number; repeatable.")
@given.json_option("metrics", "An object with numbers.")
def finish(
    status: str,
    summary: str,
    output_: tuple[str, ...],
    outputs: dict[str, Any],
    metric: tuple[str, ...],
    metrics: dict[str, Any],
) -> None:
    """Say how the job ended; the worker publishes it when the handler exits with 0.

    \b
    Example:
      breyta jobs worker finish --summary "Reviewed $surface" --output finding-count=1
    """
    result = given.context().finish(
        status,
        summary,
        outputs | given.pairs("output", output_),
        metrics | given.pairs("metric", metric),
    )
    output.answer({"result": result})


@command()
@click.option("--message", required=True, help="Why, for people.")
@click.option("--code", default="handler_failed", show_default=True, help="Why, for programs.")
@click.option("--detail", "detail", multiple=True, metavar="K=V", help="A detail; repeatable.")
@given.json_option("details", "An object with details.")
def fail(message: str, code: str, detail: tuple[str, ...], details: dict[str, Any]) -> None:
    """Say that the job failed and why; the worker publishes it when the handler exits.

    \b
    Example:
      breyta jobs worker fail --message "no such surface" --code unknown_surface --detail surface="$surface"
    """
    said = details | given.pairs("detail", detail)
    output.answer({"result": given.context().fail(message, code, said)})
