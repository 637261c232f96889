"""Groups that load a command's module when it is called, and commands that take the global options anywhere."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import click

from breyta_cli import output

Members = dict[str, tuple[str, str]]
"""Name of a command -> ``module:attribute`` and its one line of help, so that listing commands loads none."""


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    if value is not None and value is not False:
        if value == "":
            raise click.BadParameter("is empty", context, parameter)
        output.options()[str(parameter.name)] = value
    return value


_GLOBAL_HELP = {
    "--spool": ("DIR", "The spool. Also BREYTA_SPOOL or BREYTA_API_URL=file:///DIR."),
    "--workspace": ("WS", "The workspace it must belong to. Also BREYTA_WORKSPACE."),
    "--api-key": ("KEY", "A service account's key; better BREYTA_API_KEY or BREYTA_TOKEN, which ps does not show."),
}


def _global_options(hidden: bool) -> list[click.Option]:
    shared: dict[str, Any] = {"expose_value": False, "callback": _remember, "hidden": hidden}
    with_value = [click.Option([name], metavar=m, help=text, **shared) for name, (m, text) in _GLOBAL_HELP.items()]
    return [*with_value, click.Option(["--pretty"], is_flag=True, help="Indent the JSON.", **shared)]


# Made once, and shared by all commands. Click would make a --help for each, and look for translations of its text.
_SHOWN, _HIDDEN = _global_options(hidden=False), _global_options(hidden=True)


def _eager_flag(name: str, text: str, show: Callable[[click.Context], str]) -> click.Option:
    def act(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value and not context.resilient_parsing:
            click.echo(show(context), color=context.color)
            context.exit()

    return click.Option([name], is_flag=True, is_eager=True, expose_value=False, help=text, callback=act)


def _version(context: click.Context) -> str:
    import breyta_spool

    return f"breyta, version {breyta_spool.__version__}"


VERSION = _eager_flag("--version", "Show the version and exit.", _version)
_HELP = _eager_flag("--help", "Show this message and exit.", click.Context.get_help)


class Command(click.Command):
    """A command that takes the global options too, as people write them at the end of a line."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        own = {parameter.name for parameter in self.params}
        self.params += [option for option in _HIDDEN if option.name not in own]

    def get_help_option(self, context: click.Context) -> click.Option:
        """``--help``."""
        return _HELP

    def invoke(self, context: click.Context) -> Any:
        """Do what the command does."""
        if not gc.isenabled():  # main.py has turned it off while the program was loaded, which stays loaded
            gc.freeze()
            gc.enable()
        return super().invoke(context)


class Group(click.Group):
    """A group whose commands are loaded when they are called. ``aliases`` are other names for them."""

    def __init__(self, *args: Any, members: Members, aliases: dict[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._members = members
        self._aliases = aliases or {}
        self.params += _SHOWN

    def get_help_option(self, context: click.Context) -> click.Option:
        """``--help``."""
        return _HELP

    def list_commands(self, context: click.Context) -> list[str]:
        """The names of the commands, in the order they were declared."""
        return list(self._members)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Load a command."""
        place = self._members.get(self._aliases.get(name, name))
        if place is None:
            return None
        import importlib

        module, _, attribute = place[0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; for an unknown one, say which was probably meant."""
        name = args[0]  # what looks like an option is taken off the list by the time it is refused
        try:
            return super().resolve_command(context, args)
        except click.UsageError:
            import difflib

            near = difflib.get_close_matches(name, self._members, 1, 0.5)
            meant = f" Did you mean '{near[0]}'?" if near else ""
            raise click.UsageError(f"No such command '{name}'.{meant}", context) from None

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self._members.items()])


def command(name: str | None = None, **kwargs: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """Declare a command."""
    return click.command(name, cls=Command, **kwargs)
