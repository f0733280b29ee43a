"""Starts a broker on what a crash left and says which promises of a ledger are broken.

What lives here: comparing a started broker with a ledger at a moment. What may not: knowledge of how anything is stored.
"""

from collections import Counter
from collections.abc import AsyncIterator

from logbroker.clock import ManualClock
from logbroker.errors import LogbrokerError, StorageError
from logbroker.log.files import Files
from logbroker.model import Record, StoredRecord, TopicPartition
from logbroker.queues.dispatcher import Want
from logbroker.queues.dispatcher.peeking import Cursor
from logbroker.queues.peeks import MessageState
from tests.faults.ledger import Ledger
from tests.faults.life import DATA, GROUP, PRODUCER, TABLE, Running

LONG_MS = 1_000_000
"""Longer than any lease."""


async def violations(
    ledger: Ledger, moment: int, files: Files, wall_ms: int, *, killed: bool = False, goes_on: bool = False
) -> list[str]:
    """The promises that a start on ``files`` breaks, told to a person; none when all is well.

    ``killed`` says that only the process ended, which takes back less: leases still stand. ``goes_on`` has the broker
    written to as well.
    """
    found: list[str] = []
    try:
        running = await Running.start(files, ManualClock(wall_ms))
        if killed:
            found += [why async for why in _leases(ledger, moment, running)]
        for judge in (_topics, _records, _table, _start, _commits, _sequences, _jobs):
            found += [why async for why in judge(ledger, moment, running)]
        if goes_on:
            found += [why async for why in _goes_on(running)]
        await running.stop()
    except (LogbrokerError, AssertionError) as error:
        found.append(f"{type(error).__name__}: {error}")
    return found


async def wrong_reads(ledger: Ledger, moment: int, running: Running) -> list[str]:
    """What a broker that is still running reads although it was not written, or not although it was acknowledged."""
    try:
        return [why async for why in _records(ledger, moment, running)]
    except StorageError:
        return []  # a clean refusal


async def _topics(ledger: Ledger, moment: int, running: Running) -> AsyncIterator[str]:
    there = {info.name for info in running.engine.topics()}
    going = {fact.what for fact in ledger.facts if fact.kind == "deleted" and fact.begun < moment}
    for fact in ledger.promised("created", moment):
        if fact.what not in there | going:
            yield f"topic {fact.what} was created and is not there"
    for fact in ledger.promised("deleted", moment):
        if fact.what in there:
            yield f"topic {fact.what} was deleted and is there"
    coming = {fact.what for fact in ledger.facts if fact.kind == "created" and fact.begun < moment}
    for name in there:
        if name.startswith("extra") and name not in coming:
            yield f"topic {name} was never created"


async def _read(running: Running, where: TopicPartition) -> list[StoredRecord]:
    bounds = await running.engine.bounds(where)
    records: list[StoredRecord] = []
    offset = bounds.log_start_offset
    while offset < bounds.high_watermark:
        read = await running.engine.read(where, offset, max_bytes=1 << 20)
        records += read.records
        offset = read.next_offset
    return records


async def _records(ledger: Ledger, moment: int, running: Running) -> AsyncIterator[str]:
    names = [info.name for info in running.engine.topics() if info.name == DATA.topic or info.name.startswith("extra")]
    for name in names:
        where = TopicPartition(name, 0)
        bounds = await running.engine.bounds(where)
        records = {record.offset: record.value for record in await _read(running, where)}
        if list(records) != list(range(bounds.log_start_offset, bounds.high_watermark)):
            yield f"{name}: offsets {list(records)} between {bounds.log_start_offset} and {bounds.high_watermark}"
        possible = {(fact.at, fact.key) for fact in ledger.possible("record", moment) if fact.what == name}
        for offset, value in records.items():
            if (offset, value) not in possible:
                yield f"{name}: offset {offset} holds {value!r}, which was not written there"
        for fact in ledger.promised("record", moment):
            if fact.what == name and fact.at >= bounds.log_start_offset and records.get(fact.at) != fact.key:
                yield f"{name}: offset {fact.at} was acknowledged and is not there"


async def _table(ledger: Ledger, moment: int, running: Running) -> AsyncIterator[str]:
    """Of each key the value that was put last, or a later one that was begun; no other offsets than were given."""
    found = [(record.offset, record.value or b"") for record in await _read(running, TABLE)]
    possible = {(fact.at, fact.key) for fact in ledger.possible("put", moment)}
    if strange := [one for one in found if one not in possible] or sorted({at for at, _ in found}) != [
        at for at, _ in found
    ]:
        yield f"table: {strange}, which was not put there"
    latest = {value.partition(b"=")[0]: offset for offset, value in found}
    for fact in ledger.promised("put", moment):
        key = fact.key.partition(b"=")[0]
        if latest.get(key, -1) < fact.at:
            yield f"table: {fact.key!r} was put at {fact.at}, the key's last is at {latest.get(key)}"


async def _start(ledger: Ledger, moment: int, running: Running) -> AsyncIterator[str]:
    start = (await running.engine.bounds(DATA)).log_start_offset
    least = max((fact.at for fact in ledger.promised("start", moment)), default=0)
    most = max((fact.at for fact in ledger.possible("start", moment)), default=0)
    if not least <= start <= most:
        yield f"the log starts at {start}, not between {least} and {most}"


async def _commits(ledger: Ledger, moment: int, running: Running) -> AsyncIterator[str]:
    committed = await running.services.groups.fetch_offsets(GROUP)
    offset = committed[DATA].offset if DATA in committed else -1
    least = max((fact.at for fact in ledger.promised("commit", moment)), default=-1)
    most = max((fact.at for fact in ledger.possible("commit", moment)), default=-1)
    if not least <= offset <= most:
        yield f"offset {offset} is committed, not one between {least} and {most}"


async def _sequences(ledger: Ledger, moment: int, running: Running) -> AsyncIterator[str]:
    """The window of the idempotent producer, unless retention has taken its batches."""
    acknowledged = [fact.at for fact in ledger.promised("sequence", moment)]
    raw = running.engine.raw
    known = {one.producer_id: one.last_sequence for one in raw.producers(DATA)}
    forgotten = any(fact.begun < moment for fact in ledger.of("start"))
    if acknowledged and known.get(PRODUCER, -1) < acknowledged[-1] and not (forgotten and PRODUCER not in known):
        yield f"the producer's last sequence is {known.get(PRODUCER)}, {acknowledged[-1]} was acknowledged"


async def _leases(ledger: Ledger, moment: int, running: Running) -> AsyncIterator[str]:
    """What is held by somebody comes to nobody else. The first thing to be asked: time has not passed yet."""
    passed = max((fact.begun for fact in ledger.of("time") if fact.begun < moment), default=-1)
    held = {fact.key for fact in ledger.promised("leased", moment) if fact.begun > passed}
    for one in await running.queue.receive(Want(100, lease_ms=30_000), 0):
        if one.value in held:
            yield f"message {one.value!r} is held and was delivered again"


async def _everything_in_the_queue(running: Running) -> tuple[list[bytes], list[bytes]]:
    """What can be received in the end, and the dead letters."""
    await running.pass_time(LONG_MS)
    received: list[bytes] = []
    while got := await running.queue.receive(Want(100, lease_ms=30_000), 0):
        received += [one.value or b"" for one in got]
    dead = [letter async for _, letter in running.queue.peek.walk(MessageState.DEAD, Cursor())]
    return received, [letter.record.value or b"" for letter in dead if letter is not None]


async def _jobs(ledger: Ledger, moment: int, running: Running) -> AsyncIterator[str]:
    received, dead = await _everything_in_the_queue(running)
    there = Counter([*received, *dead])
    for value, count in there.items():
        if count > 1:
            yield f"message {value!r} is there {count} times"
    begun = {fact.key for fact in ledger.possible("sent", moment)}
    ending = {fact.key for fact in ledger.possible("ack", moment)}
    for value in there.keys() - begun:
        yield f"message {value!r} was not sent"
    for fact in ledger.promised("sent", moment):
        if fact.key not in there and fact.key not in ending:
            yield f"message {fact.key!r} was sent and is nowhere"
    for fact in ledger.promised("ack", moment):
        if fact.key in there:
            yield f"message {fact.key!r} was acked and is there"
    for fact in ledger.promised("reject", moment):
        if fact.key not in dead:
            yield f"message {fact.key!r} was rejected and is no dead letter"


async def _goes_on(running: Running) -> AsyncIterator[str]:
    """The broker takes records and reads them back."""
    before = await _read(running, DATA)
    appended = await running.engine.append(DATA, [Record(b"afterwards")])
    after = await _read(running, DATA)
    if after[:-1] != before or (after[-1].offset, after[-1].value) != (appended.base_offset, b"afterwards"):
        yield f"{len(before)} records became {len(after)} by an append"
