"""How a command ends: exit codes, and errors as people and programs read them.

What lives here: one table from error classes to exit codes, found by walking the class chain, and the printing of an error.
What may not: deciding whether something is an error.
Exit codes: 0 ok; 1 failure or a check not met; 2 usage; 3 partial success; 4 not found; 5 conflict; 6 not authorised;
7 unreachable or time-out; 8 damage found; 130 interrupted.
"""

import json
import sys

from logbroker import errors
from logbroker.errors import LogbrokerError

FAILURE = 1
USAGE = 2
PARTIAL = 3
DAMAGE_FOUND = 8
INTERRUPTED = 130

_EXIT_CODES: dict[type[LogbrokerError], int] = {
    LogbrokerError: FAILURE,
    errors.InvalidRequest: USAGE,
    errors.InvalidConfig: USAGE,
    errors.InvalidTopic: USAGE,
    errors.InvalidPartitions: USAGE,
    errors.InvalidOffset: USAGE,
    errors.FilterInvalid: USAGE,
    errors.NotFound: 4,
    errors.UnknownTopicOrPartition: 4,
    errors.MessageNotFound: 4,
    errors.GroupNotFound: 4,
    errors.UnknownMember: 4,
    errors.QueueNotFound: 4,
    errors.SubscriptionNotFound: 4,
    errors.SnapshotNotFound: 4,
    errors.OperationNotFound: 4,
    errors.TopicAlreadyExists: 5,
    errors.ConfigConflict: 5,
    errors.TopicInUse: 5,
    errors.NonEmptyGroup: 5,
    errors.IllegalGeneration: 5,
    errors.RebalanceInProgress: 5,
    errors.LeaseLost: 5,
    errors.HostForbidden: 6,
    errors.TopicReserved: 6,
    errors.Unreachable: 7,
    errors.Recovering: 7,
    errors.NoResponders: 7,
    errors.RequestTimeout: 7,
    errors.CorruptMessage: DAMAGE_FOUND,
    errors.PartitionDamaged: DAMAGE_FOUND,
}

_HINTS: dict[type[LogbrokerError], str] = {
    errors.Unreachable: "is it running? Start one with 'logbroker serve', or name another with --url or LOGBROKER_URL",
    errors.Recovering: "the broker is starting or stopping; try again in a moment",
    errors.UnknownTopicOrPartition: "'logbroker topic ls' shows the topics there are",
    errors.TopicAlreadyExists: "'logbroker topic describe NAME' shows it; 'logbroker topic alter' changes it",
    errors.ConfigConflict: "'logbroker topic|queue|sub describe NAME' shows it; 'alter' changes it",
    errors.GroupNotFound: "'logbroker group ls' shows the groups there are",
    errors.NonEmptyGroup: "'logbroker group describe NAME --members' shows who is in it",
    errors.QueueNotFound: "'logbroker queue ls' shows the queues there are",
    errors.SubscriptionNotFound: "'logbroker sub ls' shows the subscriptions there are",
    errors.QueueFull: "'logbroker queue stats NAME' shows what waits; raise max_size with 'logbroker queue alter'",
    errors.NoResponders: "start one: 'logbroker reply SERVICE -- COMMAND'",
    errors.HostForbidden: "reach it by its address, or start it with --allow-host NAME",
    errors.PartitionDamaged: "'logbroker segment verify' on the data directory tells what is damaged",
    errors.InvalidConfig: "'logbroker config schema' explains every setting",
}


def exit_code(error: LogbrokerError) -> int:
    """The exit code of the class, or of the nearest class above it that has one."""
    return next(_EXIT_CODES[kind] for kind in type(error).__mro__ if kind in _EXIT_CODES)


def hint(error: LogbrokerError) -> str | None:
    """What to do about it, where that can be said."""
    return next((_HINTS[kind] for kind in type(error).__mro__ if kind in _HINTS), None)


def report(error: LogbrokerError, output: str) -> None:
    """Print an error to stderr: two lines for people, or one JSON object shaped as the HTTP API's problems."""
    if output == "table":
        print(f"error[{error.code}]: {error.detail}", file=sys.stderr)
        advice = hint(error)
        if advice is not None:
            print(f"hint: {advice}", file=sys.stderr)
        return
    problem = {
        "type": f"/docs/errors/{error.code}",
        "title": (type(error).__doc__ or "").strip().split("\n")[0].rstrip("."),
        "detail": error.detail,
        "code": error.code,
        "retriable": error.retriable,
        **error.fields,
    }
    print(json.dumps(problem, default=str), file=sys.stderr)
