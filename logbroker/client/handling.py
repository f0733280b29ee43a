"""What a worker makes of a message, and what becomes of the message after it: the rules, without doing anything.

What lives here: reading a handler's signature, decoding what it wants, and the settlement that its end leads to. What may
not: waiting, threads, sending.
Invariants: only a handler that returned leads to an ack; a message that cannot be decoded never will be, so it becomes a
dead letter at once instead of using up its attempts.
"""

import inspect
import traceback
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from logbroker.client.calls.messages import Delivery, Settlement, Verb
from logbroker.client.durations import Duration, to_ms
from logbroker.client.payloads import Payload, told_text
from logbroker.errors import InvalidRequest, LogbrokerError


class Retry(Exception):
    """Raised by a handler: deliver the message again, ``after`` so long or as the queue says. It counts as a failure."""

    def __init__(self, reason: str = "", *, after: Duration | None = None) -> None:
        super().__init__(reason)
        self.delay_ms = None if after is None else max(0, to_ms(after))


class DeadLetter(Exception):
    """Raised by a handler: the message will never succeed; it goes to the dead letters at once."""


class TimedOut(Exception):
    """What a handler that ran longer than its timeout has failed with."""


class Undecodable(Exception):
    """What a message has failed with that is not what its handler takes."""


class Settling(NamedTuple):
    """What a message is to be settled with."""

    verb: Verb
    entry: Settlement


class Wanted(NamedTuple):
    """What a handler takes: a message decoded as ``kind``, and the context where it asks for it."""

    kind: Any
    context: bool
    is_async: bool


def wanted_by(handler: Callable[..., Any]) -> Wanted:
    """What a handler takes, by its signature: ``(message)`` or ``(message, context)``. Raises InvalidRequest."""
    name = getattr(handler, "__qualname__", repr(handler))
    parameters = [
        one
        for one in inspect.signature(handler).parameters.values()
        if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
    ]
    if not 1 <= len(parameters) <= 2:
        raise InvalidRequest(f"{name} takes {len(parameters)} arguments; a handler takes a message, and perhaps a context")
    try:
        hints = typing.get_type_hints(handler)
    except NameError as error:
        raise InvalidRequest(f"the annotations of {name} cannot be read: {error}") from None
    kind = hints.get(parameters[0].name, Delivery)
    if isinstance(kind, type) and issubclass(kind, Delivery):
        kind = Delivery
    return Wanted(kind, len(parameters) == 2, inspect.iscoroutinefunction(handler))


def decoder_of(kind: Any, whole: type[Payload] = Delivery) -> Callable[[Any], Any]:
    """How what comes becomes what a handler takes: itself (``whole``), bytes, text, or its value as JSON of that type."""
    if kind is Delivery or kind is whole:
        return lambda payload: payload
    if kind is bytes:
        return lambda payload: payload.value or b""
    if kind is str:
        return lambda payload: payload.text()
    decoder = msgspec.json.Decoder(kind)  # told now when msgspec cannot make such a type, not at the first message

    def decode(payload: Payload) -> Any:
        try:
            return decoder.decode(payload.value or b"null")
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            name = getattr(kind, "__name__", kind)
            raise Undecodable(f"the message is not the {name} its handler takes: {error}") from None

    return decode


def told_of(error: BaseException) -> str:
    """What somebody else is told of a failure: of ours, everything; of a cancellation, that the work was given up."""
    if not isinstance(error, Exception):
        return "the responder stopped before it was done"
    return told_text(str(error)) if isinstance(error, DeadLetter | Retry | Undecodable) and str(error) else _told(error)


def settling_of(receipt: str, error: BaseException | None) -> Settling:
    """What becomes of a message whose handler returned, or ended with ``error``.

    A handler that was stopped from outside (CancelledError, the end of the process) has not failed: nothing is counted.
    """
    if error is None:
        return Settling("ack", Settlement(receipt))
    if not isinstance(error, Exception):
        return Settling("release", Settlement(receipt))
    if isinstance(error, Retry):
        return Settling("nack", Settlement(receipt, error.delay_ms, told_text(str(error)) or "retry"))
    if isinstance(error, DeadLetter | Undecodable):
        return Settling("reject", Settlement(receipt, error=told_text(str(error)) or "dead letter"))
    return Settling("nack", Settlement(receipt, error=_told(error)))


def _told(error: Exception) -> str:
    """Kind, text and the innermost places, the way to the error: what a dead letter is looked at for."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, TimedOut | LogbrokerError):
        return told_text(text)
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    places = [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in reversed(frames)]
    return told_text("\n".join([text, *places]))
