"""``logbroker serve``: run the broker in this process until it is told to stop, or until it cannot go on.

What lives here: flags, what is printed, logging, the event loop, and the exit of the process. What may not: the order of
starting and stopping, which is ``node``.
Printed on stdout, for people and programs: one line ``listening DOOR URL`` for each open door.
"""

import asyncio
import json
import logging
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from logbroker.cli import failures, settings
from logbroker.cli.framework import Command, Invocation, pass_invocation
from logbroker.config import BROKER_SETTINGS, DURABILITIES, TOPIC_SETTINGS, BrokerConfig, configured
from logbroker.errors import FlushFailed

if TYPE_CHECKING:
    from logbroker.node import Node

log = logging.getLogger(__name__)

_ENOUGH_DESCRIPTORS = 1 << 20
_PLAIN_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, event, and whatever the call gave as ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _PLAIN_ATTRIBUTES}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


@click.command(cls=Command)
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="A TOML file [LOGBROKER_CONFIG].")
@click.option("--http", metavar="HOST:PORT", help="The HTTP door; port 0 picks a free one.")
@click.option("--kafka", metavar="HOST:PORT|off", help="The Kafka door.")
@click.option("--durability", type=click.Choice(DURABILITIES), help=TOPIC_SETTINGS["durability"].doc)
@click.option("--insecure-public", is_flag=True, default=None, help="Allow addresses that other machines reach.")
@click.option("--allow-host", multiple=True, metavar="NAME", help="A further name for Host and Origin headers.")
@pass_invocation
def serve(invocation: Invocation, /, config_file: Path | None, **flags: Any) -> None:
    """Start the broker. SIGTERM or Ctrl-C stops it after what is under way."""
    given = {name: value for name, value in {"data_dir": invocation.data_dir, **flags}.items() if value not in (None, ())}
    effective = settings.load(given, os.environ, config_file)
    _log_to_stderr(effective.broker.log_level)
    effective = replace(effective, broker=_within_descriptors(effective.broker))
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(effective))


def _within_descriptors(broker: BrokerConfig) -> BrokerConfig:
    """Take as many descriptors as this process may have, and leave half of them for connections."""
    try:
        import resource
    except ImportError:  # not a Unix
        return broker
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = _ENOUGH_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH_DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    room = max(allowed // 2, BROKER_SETTINGS["max_open_files"].at_least or 0)
    if broker.max_open_files <= room:
        return broker
    log.warning("max_open_files is lowered to %d: this process may have %d descriptors (ulimit -n)", room, allowed)
    return configured(broker, {"max_open_files": room})


def _log_to_stderr(level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)


def _loop_factory() -> Any:
    """uvloop's loop where it is installed, else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _serve(effective: settings.Settings) -> None:
    from logbroker.node import Node, run

    try:
        await run(Node(effective.broker, effective.topics), _announce)
    except FlushFailed as failure:
        _exit_at_once(failure)


def _announce(node: "Node") -> None:
    for door, url in node.listeners.items():
        print(f"listening {door} {url}", flush=True)


def _exit_at_once(failure: FlushFailed) -> NoReturn:
    """End the process without running anything more: nothing in it may acknowledge, and a stuck flush must not hold it."""
    failures.report(failure, "table")
    sys.stderr.flush()
    os._exit(failures.FAILURE)
