"""The command ``logbroker``: the table of commands, and how a run starts and ends.

To add a command, write it in a module of its own and name it in ``COMMANDS``. Imports here must stay cheap: this module is
loaded by every run.
Invariant: every failure ends in a message and an exit code of ``failures``; a traceback is a defect.
"""

import os
import sys

import click

from logbroker.cli import failures
from logbroker.cli.framework import Invocation, Lazy, LazyGroup
from logbroker.errors import LogbrokerError

COMMANDS = {
    "serve": Lazy("logbroker.cli.serve", "serve", "Start the broker."),
    "topic": Lazy("logbroker.cli.topics", "topic", "List, create, describe, change and delete topics."),
    "produce": Lazy("logbroker.cli.produce", "produce", "Write records to TOPIC, from standard input or from files."),
    "consume": Lazy("logbroker.cli.consume", "consume", "Read records from TOPICs."),
    "group": Lazy("logbroker.cli.groups", "group", "List, describe, move and delete consumer groups."),
    "txn": Lazy("logbroker.cli.transactions", "transaction", "List, describe and abort transactions of Kafka producers."),
    "queue": Lazy("logbroker.cli.queues", "queue", "Work queues: create, send, receive, look into, change, delete."),
    "sub": Lazy("logbroker.cli.subscriptions", "sub", "Subscriptions: many readers of a topic, each with its own filter."),
    "dlq": Lazy("logbroker.cli.dead_letters", "dlq", "Dead letters: look at them, send them back, drop them."),
    "request": Lazy("logbroker.cli.requests", "request", "Ask SERVICE and print its reply."),
    "reply": Lazy("logbroker.cli.requests", "reply", "Answer the requests of SERVICE with COMMAND, until a signal comes."),
    "segment": Lazy("logbroker.cli.storage.commands", "segment", "Look into the files of a data directory."),
    "backup": Lazy(
        "logbroker.cli.storage.backups",
        "backup",
        "Copy all a broker holds, while it runs.",
    ),
    "restore": Lazy(
        "logbroker.cli.storage.backups",
        "restore",
        "Make a data directory from a backup.",
    ),
    "config": Lazy("logbroker.cli.configuration", "config", "Show, check and explain the settings."),
    "demo": Lazy("logbroker.cli.demo", "demo", "Run a whole job on real data."),
    "version": Lazy("logbroker.cli.version", "version", "Show the version."),
}

_NAME = "logbroker"
_COMPLETION_VARIABLE = "_LOGBROKER_COMPLETE"
"""Set by the completion script that click makes for a shell."""


@click.group(cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["--help", "-h"]})
def cli() -> None:
    """One process, one durable log, several doors: topics, consumer groups and work queues."""


def main() -> None:
    """Run the command line and end the process with its exit code."""
    if _COMPLETION_VARIABLE in os.environ:
        cli.main(prog_name=_NAME)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    invocation = Invocation()
    try:
        invocation = Invocation.from_environment(os.environ)
        with cli.make_context(_NAME, list(arguments), obj=invocation) as context:
            result = cli.invoke(context)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except LogbrokerError as error:
        failures.report(error, invocation.output)
        return failures.exit_code(error)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return failures.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has what it wanted; what Python still buffers must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
