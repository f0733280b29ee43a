"""Verify: an operation that reads and checks every sealed segment of some partitions.

What lives here: which partitions, and how far it is. What may not: reading a segment (``engine.api.Storage``), how an
operation is kept (``operations``). Invariant: a partition counts as done when all its segments have been checked; after a
restart the one under way is begun again.
"""

from collections.abc import Sequence

import msgspec

from logbroker.broker.operations import Operation, Operations, VerifyPlan
from logbroker.engine.api import Engine
from logbroker.errors import NotSupported, PartitionDamaged, UnknownTopicOrPartition
from logbroker.model import TopicPartition

DEFAULT_RATE = 64 << 20
"""Bytes a second: as fast as it can be beside others (see ``engine.scrubber``)."""


class Verifications:
    """The use case of looking for damage now."""

    def __init__(self, engine: Engine, operations: Operations) -> None:
        self._engine = engine
        self._operations = operations
        operations.serve("verify", self._work)

    async def begin(self, targets: Sequence[TopicPartition], bytes_per_second: int | None) -> Operation:
        """Begin to check partitions; durable on return. Raises NotSupported where the engine has no files."""
        if self._engine.storage is None:
            raise NotSupported("the engine of this broker has no files of its own")
        return await self._operations.begin(
            Operation(
                id=self._operations.new_id(),
                kind="verify",
                queue=None,
                rate=bytes_per_second,
                created_ms=self._operations.now_ms(),
                verify=VerifyPlan([(where.topic, where.partition) for where in targets]),
            )
        )

    async def _work(self, operation: Operation) -> None:
        plan = operation.verify
        assert plan is not None, "every verification has a plan"
        for number in range(plan.done, len(plan.targets)):
            operation = await self._check(operation, TopicPartition(*plan.targets[number]))
            operation = msgspec.structs.replace(operation, verify=msgspec.structs.replace(plan, done=number + 1))
            await self._operations.store(operation)

    async def _check(self, operation: Operation, where: TopicPartition) -> Operation:
        """Check one partition; one that cannot even be opened counts as one damage."""
        storage = self._engine.storage
        assert storage is not None, "it had files when this began"
        try:
            segments = [one for one in storage.segments(where) if not one.active]
        except UnknownTopicOrPartition:
            return operation
        except PartitionDamaged as damage:
            return msgspec.structs.replace(operation, failed=operation.failed + 1, error=damage.detail)
        rate = int(operation.rate or DEFAULT_RATE)
        for segment in segments:
            check = await storage.check(where, segment.base_offset, rate)
            if check is None:
                continue
            error = check.damages[0].message if check.damages else None
            operation = msgspec.structs.replace(
                operation,
                examined=operation.examined + 1,
                done=operation.done + (not check.damages),
                failed=operation.failed + len(check.damages),
                error=f"{where}: {error}" if error else operation.error,
            )
        return operation
