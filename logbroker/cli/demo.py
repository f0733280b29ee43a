"""``logbroker demo``: whole jobs on real data, each checking its own result."""

import click

from logbroker.cli.flights import flights
from logbroker.cli.framework import Group


@click.group(cls=Group)
def demo() -> None:
    """Run a whole job on real data."""


demo.add_command(flights)
