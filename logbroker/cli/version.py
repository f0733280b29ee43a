"""``logbroker version``."""

import platform

import click

from logbroker import __version__
from logbroker.cli.framework import Command, Invocation, pass_invocation
from logbroker.cli.output import print_item


@click.command(cls=Command)
@pass_invocation
def version(invocation: Invocation) -> None:
    """Show the version."""
    if invocation.output == "table":
        print(f"logbroker {__version__}")
    else:
        print_item(invocation, {"version": __version__, "python": platform.python_version()})
