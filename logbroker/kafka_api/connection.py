"""One client connection: frames in, handlers called, replies out in the order of the requests.

What lives here: the order of things on a connection, back-pressure, and what happens when something goes wrong in one
request. What may not: sockets' settings (``server``), layouts, what any API means.

Invariants:

- replies go out in the order of the requests (Kafka's clients match them by position);
- requests are served in their order. An append does not hold up what follows it, only its reply waits for the flush;
  everything else that waits (a long poll, a join) holds up the rest of its connection, and nothing of any other;
- nothing escapes ``buffer_updated``: an exception there would make the loop close the connection without a word, and
  clients reconnect and retry for ever;
- a wake-up from elsewhere (a flush, a producer on another connection) only notes that there is something to do; it is done
  in a turn of the loop of its own, and not at all if the connection has gone: uvloop raises on a closed transport, and
  that must not reach whoever woke us.
"""

import asyncio
import logging
from time import perf_counter
from typing import Final, cast

from logbroker.errors import InvalidFrame, InvalidRequest
from logbroker.kafka_api.answers import Context, Disconnect, Later, Reply
from logbroker.kafka_api.replies import Replies, Slot
from logbroker.kafka_api.state import DoorState
from logbroker.wire.framing import FrameBuffer
from logbroker.wire.header import RequestHeader, read_request_header, response_frame

log = logging.getLogger("logbroker.kafka")

_READ_AHEAD: Final = 64 * 1024
"""How many unserved bytes are read while a request waits. Reading goes on so that a client that leaves is noticed."""
_ASK_AGAIN_S: Final = 0.05
_TURN_REQUESTS: Final = 500
"""How many requests one connection may have served before the others get their turn."""


class Connection(asyncio.BufferedProtocol):
    """The server side of one connection."""

    def __init__(self, door: DoorState) -> None:
        self._door = door
        self._transport: asyncio.Transport | None = None
        self._frames = FrameBuffer(door.services.config.kafka_max_frame_bytes)
        self._replies = Replies()
        self._waiting: set[Later] = set()
        self._blocked = False
        self._draining = False
        self._write_paused = False
        self._read_paused = False
        self._resume_is_due = False
        self._limit_is_lifted = False
        self._has_served = False
        self._host = ""
        self._caller = door.new_caller()
        self.active_ms = door.services.clock.now().mono_ms
        """When the client was last heard (monotonic)."""
        self._in_flight = door.services.in_flight
        self._held = 0
        self._begun_ms: int | None = self.active_ms
        """Since when the client owes the rest of a request; at first, all of one."""

    # -- what the loop tells -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection in, or close it if there are too many."""
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._host = peer[0] if isinstance(peer, tuple) else ""
        if not self._door.enter(self):
            self.close("there are as many connections as kafka_max_connections allows")

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop whatever waits for this client."""
        self._transport = None
        self._in_flight.changed(self._held, 0)
        self._in_flight.has_grown(self)
        self._held = 0
        self._door.leave(self)
        waiting, self._waiting = self._waiting, set()
        for later in waiting:
            later.cancel()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        return self._frames.get_buffer(sizehint)

    def buffer_updated(self, nbytes: int) -> None:
        """Serve what has become whole."""
        self._frames.received(nbytes)
        self.active_ms = self._door.services.clock.now().mono_ms
        self._advance()
        self._note_rest()

    def _note_rest(self) -> None:
        """Note since when the client owes the rest of a request."""
        if self._is_held_up or (self._limit_is_lifted and not self._frames.unread_bytes):
            self._begun_ms = None
        elif self._begun_ms is None or self._has_served:
            self._begun_ms = self.active_ms
        self._has_served = False

    def is_too_slow(self, now_ms: int, timeout_ms: int) -> bool:
        """Whether the client has not sent a whole request for longer than what has come of it excuses."""
        begun_ms = self._begun_ms
        return begun_ms is not None and now_ms - begun_ms > timeout_ms + self._frames.unread_bytes * 1000 // 1024

    def eof_received(self) -> bool:
        """A client that has finished sending wants nothing any more, as Kafka has it."""
        return False

    def pause_writing(self) -> None:
        """The client does not read: serve nothing until it does."""
        self._write_paused = True

    def resume_writing(self) -> None:
        """The client reads again."""
        self._write_paused = False
        self._account()
        self._resume_soon()

    # -- life --------------------------------------------------------------------------------------------------------

    @property
    def is_owed(self) -> bool:
        """Whether the client waits for something, however long it takes."""
        return bool(self._replies) or bool(self._waiting)

    def shrink(self) -> None:
        """Give the receive buffer back if it is empty."""
        self._frames.shrink()
        self._account()

    def drain(self) -> None:
        """The broker is closing: serve no more, let long polls answer with what there is, close after the last reply."""
        self._draining = True
        for later in tuple(self._waiting):
            later.hasten()
        self._resume_soon()

    def close(self, reason: str = "") -> None:
        """Close once what was written is sent, or at once if that was asked before; the reason goes into the log."""
        if self._transport is None:
            return
        if self._transport.is_closing():
            self._transport.abort()
            return
        if reason:
            log.info("connection closed: %s", reason, extra={"client": self._host, "caller": self._caller})
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    # -- serving -----------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Serve requests while that is possible, write what is ready, and read on if there is room."""
        self._write_ready()
        try:
            self._serve_ready()
        except (InvalidFrame, Disconnect) as error:
            self._write_ready()
            self.close(str(error))
        except Exception:
            log.exception("connection closed: a request failed where it cannot be answered", extra={"client": self._host})
            self.abort()
        else:
            was_full = self._replies.is_full
            self._write_ready()
            if was_full and not self._replies.is_full:
                self._resume_soon()
            if self._draining and not self.is_owed:
                self.close()
            else:
                self._steer_reading()

    @property
    def _is_held_up(self) -> bool:
        """Whether no further request may be served now."""
        return self._blocked or self._write_paused or self._replies.is_full or self._draining

    def _serve_ready(self) -> None:
        for _ in range(_TURN_REQUESTS):
            frame = None if self._is_held_up else self._frames.next_frame()
            if frame is None:
                return
            self._serve(frame)
        self._resume_soon()

    def _serve(self, frame: memoryview) -> None:
        try:
            header, body = read_request_header(frame)
        except InvalidRequest as error:
            raise Disconnect(f"the header of a request cannot be read: {error.detail}") from None
        began = perf_counter()
        context = Context(self._door.node, header.api_version, header.client_id or "", self._host, self._caller)
        answer = self._door.registry.answer(self._door.services, header, body, context)
        if not self._limit_is_lifted and header.is_served:
            self._frames.lift_limit()
            self._limit_is_lifted = True
        self._has_served = True
        if isinstance(answer, Reply):
            self._settle(header, answer, None if answer.body is None else self._replies.reserve(), began)
        else:
            self._wait_for(answer, header, began)

    def _wait_for(self, later: Later, header: RequestHeader, began: float) -> None:
        slot = self._replies.reserve()
        blocks = later.blocks
        self._waiting.add(later)
        self._blocked = self._blocked or blocks

        def done(reply: Reply) -> None:
            self._waiting.discard(later)
            if blocks:
                self._blocked = False
            self._settle(header, reply, slot, began)
            self._resume_soon()

        later.then(done)

    def _settle(self, header: RequestHeader, reply: Reply, slot: Slot | None, began: float) -> None:
        api = header.api
        self._door.count(api, reply.code, perf_counter() - began)
        if slot is not None and reply.body is not None:
            header_version = api.response_header_version(header.api_version) if api is not None else 0
            self._replies.fill(slot, response_frame(header.correlation_id, header_version, reply.body))

    # -- writing and waking ------------------------------------------------------------------------------------------

    def _resume_soon(self) -> None:
        if not self._resume_is_due:
            self._resume_is_due = True
            asyncio.get_running_loop().call_soon(self._resume)

    def _resume(self) -> None:
        self._resume_is_due = False
        if self._transport is not None and not self._transport.is_closing():
            self._advance()

    def _write_ready(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        for piece in self._replies.take_ready():
            transport.write(piece)

    def _steer_reading(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._account()
        pause = self._frames.unread_bytes >= _READ_AHEAD and (self._is_held_up or self._must_not_grow())
        if pause is not self._read_paused:
            self._read_paused = pause
            (transport.pause_reading if pause else transport.resume_reading)()

    def _must_not_grow(self) -> bool:
        """Whether the rest of a large request has to wait until others need less memory; it is then asked again."""
        if self._in_flight.may_grow(self):
            return False
        asyncio.get_running_loop().call_later(_ASK_AGAIN_S, self._resume_soon)
        return True

    def _account(self) -> None:
        """Say how much memory this connection holds."""
        transport = self._transport
        unsent = transport.get_write_buffer_size() if transport is not None else 0
        held = self._frames.capacity_bytes + unsent
        if held != self._held:
            self._in_flight.changed(self._held, held)
            self._held = held
        if not self._frames.unread_bytes:
            self._in_flight.has_grown(self)
