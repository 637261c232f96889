"""The program: the command tree, and how every command ends. main.py starts it."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import click

from breyta_cli import output
from breyta_cli.tree import VERSION, Group
from breyta_spool.errors import SpoolError, StorageError, storage_error


@click.command(
    cls=Group,
    params=[VERSION],
    members={
        "jobs": ("breyta_cli.jobs:jobs", "Submit, list, show, await, cancel and work on jobs."),
        "resources": ("breyta_cli.resources:resources", "Read what jobs have attached, by address."),
        "spool": ("breyta_cli.spool:spool", "Make a spool and look after it."),
        "service-accounts": ("breyta_cli.accounts:service_accounts", "Say who may do what; make and revoke keys."),
        "workers": ("breyta_cli.workers:workers", "See which workers live."),
    },
)
def breyta() -> None:
    """Jobs on a shared directory: submit them, work on them, await them, without a network.

    Inside a spool no option is needed: the nearest directory upwards with a spool.json is it.

    \b
    Example:
      breyta spool init ./spool && cd spool
      breyta jobs create --type agent-review --payload '{"surface": "flows-api"}'
      breyta jobs worker run --type agent-review --handler ../review.sh --once
    """


def run() -> int:
    """Run the command line; gives its exit code (docs/cli.md)."""
    _open_what_is_closed()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # like every filter: end quietly when the reader goes away
    try:
        code = _command()
        sys.stdout.flush()
    except click.exceptions.Abort:
        code = 130
    except click.ClickException as error:
        code = _usage(error)
    except SpoolError as error:
        code = output.failure(error)
    except KeyboardInterrupt:
        code = 130
    except OSError as error:
        code = output.failure(_disk(error))
    return code


def _command() -> int:
    try:
        code = breyta.main(prog_name="breyta", standalone_mode=False)
    except SystemExit as left:
        code = left.code
    return code if isinstance(code, int) else 0


def _open_what_is_closed() -> None:
    """Let nothing of ours become the standard input or output of a caller who has closed them (``>&-``)."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - as long as the program runs


def _usage(error: click.ClickException) -> int:
    error.show()
    context: Any = getattr(error, "ctx", None)
    if context is not None:
        click.echo(f"hint: '{context.command_path} --help' shows how it is used", err=True)
    return 2


def _disk(error: OSError) -> StorageError:
    return storage_error(error, "do this")
