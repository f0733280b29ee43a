"""``logbroker demo``: whole jobs on real data, each checking its own result."""

import click

from logbroker.cli.competing import competing
from logbroker.cli.fanout import fanout
from logbroker.cli.flights import flights
from logbroker.cli.framework import Group
from logbroker.cli.orders import orders
from logbroker.cli.replies import replies


@click.group(cls=Group)
def demo() -> None:
    """Run a whole job on real data."""


for command in (flights, fanout, orders, replies):
    demo.add_command(command)
demo.add_command(competing, "workers")
