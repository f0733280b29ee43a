"""``POST .../records`` as NDJSON: one record per line in, one report per line out, for as long as the client likes.

What lives here: cutting a stream into lines, and the loop produce, report, read on. Invariants: a bad line answers its
error and stops nothing; the next chunk is read only when the reports of the last are written, so a client that does not
read its reports is not read either (back-pressure); memory is bounded by one chunk and one line.
"""

from collections.abc import Sequence

import msgspec
from aiohttp import ClientPayloadError, web

from logbroker.broker.produce import Outcome, Terms
from logbroker.broker.services import Services
from logbroker.errors import InvalidRequest, LogbrokerError, MessageTooLarge
from logbroker.http_api.errors import REQUEST_ID
from logbroker.http_api.payloads import RecordIn, result_of, to_record
from logbroker.http_api.requests import NDJSON, decode_json
from logbroker.model import Header, Record

_decoder = msgspec.json.Decoder(RecordIn)
_encoder = msgspec.json.Encoder()
_EACH = Terms(each=True)


class Lines:
    """Cuts chunks into lines of at most ``max_bytes``."""

    def __init__(self, max_bytes: int) -> None:
        self._rest: list[bytes] = []
        self._rest_bytes = 0
        self._max_bytes = max_bytes

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that end in ``chunk``, blank ones left out."""
        first, *others = chunk.split(b"\n")
        self._rest.append(first)
        lines = []
        if others:
            lines = [b"".join(self._rest), *others[:-1]]
            self._rest, self._rest_bytes = [others[-1]], 0
        self._rest_bytes += len(self._rest[-1])
        return [line for line in lines if line.strip()]

    def check(self) -> None:
        """Raise MessageTooLarge when the line that has not ended yet is too long already."""
        if self._rest_bytes > self._max_bytes:
            raise MessageTooLarge(f"a line is longer than {self._max_bytes} bytes")

    def end(self) -> list[bytes]:
        """The last line, when it has no newline."""
        rest, self._rest = b"".join(self._rest), []
        return [rest] if rest.strip() else []


async def produce_stream(
    services: Services, request: web.Request, topic: str, common: tuple[Header, ...]
) -> web.StreamResponse:
    """Append the lines of the body as they come."""
    answer = web.StreamResponse(headers={"Content-Type": NDJSON, "X-Request-Id": request[REQUEST_ID]})
    await answer.prepare(request)
    lines = Lines(services.config.max_request_bytes)
    index = 0
    ended = False
    try:
        while not ended:
            chunk = await request.content.readany()
            ended = not chunk
            batch = lines.end() if ended else lines.feed(chunk)
            if batch:
                await answer.write(_reports(index, await _append(services, topic, batch, common)))
                index += len(batch)
            lines.check()
    except LogbrokerError as error:
        await answer.write(_reports(index, [error]))
        answer.force_close()
    except (ClientPayloadError, ConnectionError):
        return answer
    await answer.write_eof()
    return answer


async def _append(services: Services, topic: str, lines: Sequence[bytes], common: tuple[Header, ...]) -> list[Outcome]:
    """One outcome per line; the good lines are appended together."""
    now_ms = services.clock.now().wall_ms
    outcomes: list[Outcome | None] = [None] * len(lines)
    records: list[Record] = []
    partitions: list[int | None] = []
    for place, line in enumerate(lines):
        try:
            given = decode_json(_decoder, line)
            records.append(to_record(given, now_ms, common))
            partitions.append(given.partition)
        except InvalidRequest as error:
            outcomes[place] = error
    produced = iter(await services.produce.produce(topic, records, partitions, _EACH))
    return [next(produced) if outcome is None else outcome for outcome in outcomes]


def _reports(first: int, outcomes: Sequence[Outcome]) -> bytes:
    return _encoder.encode_lines([result_of(index, outcome) for index, outcome in enumerate(outcomes, first)])
