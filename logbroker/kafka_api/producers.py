"""InitProducerId, v0 to v5, and DescribeProducers, v0: idempotent producers.

Intended deviations: a transactional id is refused with error 53, which makes clients fail at once rather than in their
first commit, until transactions are whole; a producer that names its id and epoch (KIP-360) gets a new id rather than a
new epoch, which serves it as well.
"""

from typing import Any

from logbroker.broker.services import Services
from logbroker.errors import TransactionsUnsupported
from logbroker.kafka_api.answers import Context


async def init_producer_id(services: Services, request: Any, context: Context) -> dict[str, Any]:
    """Serve InitProducerId."""
    if request.transactional_id is not None:
        raise TransactionsUnsupported()
    return {"producer_id": await services.engine.allocate_producer_id(), "producer_epoch": 0}
