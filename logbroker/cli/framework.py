"""What every command is made of: global options, accepted anywhere on the line, and groups that load when they are used.

What lives here: the click classes and the ``Invocation`` they fill. What may not: commands, and imports that cost time at
start-up (aiohttp and rich load where they are used).
Invariant: a global option means the same wherever it stands; the last one given wins.
"""

import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import click

from logbroker.cli import settings

FORMATS = ("table", "json", "jsonl")


@dataclass(slots=True)
class Invocation:
    """The global options of one run of the command line."""

    given_url: str | None = None
    data_dir: str | None = None
    output: str = "table"
    headers: bool = True
    quiet: bool = False
    yes: bool = False
    timeout_s: float = 30.0
    color: bool = True

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Invocation":
        """What holds where the line says nothing. Raises click.UsageError on a bad LOGBROKER_OUTPUT."""
        output = environ.get(settings.OUTPUT_VARIABLE, "table")
        if output not in FORMATS:
            raise click.UsageError(f"{settings.OUTPUT_VARIABLE} = {output!r} must be one of {', '.join(FORMATS)}")
        return cls(environ.get(settings.URL_VARIABLE), output=output, color="NO_COLOR" not in environ)

    @property
    def url(self) -> str:
        """The broker to speak to."""
        return self.given_url or settings.DEFAULT_URL

    def confirm(self, plan: str) -> None:
        """Ask before something destructive; without a terminal only --yes will do. Raises click.Abort, click.UsageError."""
        if self.yes:
            return
        if not sys.stdin.isatty():
            raise click.UsageError(f"{plan}\nSay --yes to do this without being asked.")
        click.confirm(f"{plan}\nGo on?", abort=True, err=True)


pass_invocation = click.make_pass_decorator(Invocation)


class _GlobalOption(click.Option):
    """An option that every command takes and that is shown in a section of its own."""


def _global(attribute: str, *names: str, meaning: object = None, **attributes: Any) -> _GlobalOption:
    def keep(ctx: click.Context, _: click.Parameter, given: object) -> None:
        if given is not None and given is not False:
            setattr(ctx.ensure_object(Invocation), attribute, given if meaning is None else meaning)

    return _GlobalOption(names, expose_value=False, callback=keep, is_eager=True, **attributes)


def _global_options() -> list[click.Parameter]:
    return [
        _global("given_url", "--url", "-u", metavar="URL", help="The broker to speak to [LOGBROKER_URL]."),
        _global("data_dir", "--data-dir", "-d", metavar="DIR", help="The data directory [LOGBROKER_DATA_DIR]."),
        _global("output", "--output", "-o", type=click.Choice(FORMATS), help="How to print [LOGBROKER_OUTPUT]."),
        _global("headers", "--no-headers", is_flag=True, meaning=False, help="Tables without their first line."),
        _global("quiet", "--quiet", "-q", is_flag=True, meaning=True, help="No messages and no progress."),
        _global("yes", "--yes", "-y", is_flag=True, meaning=True, help="Do what would be asked about."),
        _global("timeout_s", "--timeout", type=click.FloatRange(0.1), metavar="SECONDS", help="For one request."),
        _global("color", "--no-color", is_flag=True, meaning=False, help="No colours [NO_COLOR]."),
    ]


class _WithGlobalOptions(click.Command):
    """A command that takes the global options beside its own."""

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.params.extend(_global_options())

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows: dict[str, list[tuple[str, str]]] = {"Options": [], "Global options": []}
        for parameter in self.get_params(ctx):
            row = parameter.get_help_record(ctx)
            if row is not None:
                rows["Global options" if isinstance(parameter, _GlobalOption) else "Options"].append(row)
        for title, entries in rows.items():
            if entries:
                with formatter.section(title):
                    formatter.write_dl(entries)
        if isinstance(self, click.Group):
            self.format_commands(ctx, formatter)


class Command(_WithGlobalOptions):
    """The class of every command."""


class Group(_WithGlobalOptions, click.Group):
    """A group of commands that are all loaded with it."""

    command_class = Command


class Lazy(NamedTuple):
    """Where a command lives, and the line that tells of it without loading it."""

    module: str
    attribute: str
    summary: str


class LazyGroup(Group):
    """A group whose commands are imported when they are called, so that ``--help`` and each command start quickly."""

    def __init__(self, *args: Any, lazy: Mapping[str, Lazy], **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        where = self._lazy.get(cmd_name)
        if where is None:
            return None
        command = getattr(importlib.import_module(where.module), where.attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, where.summary) for name, where in self._lazy.items()])
