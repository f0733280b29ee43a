"""Which handler serves which API.

What lives here: the table. What may not: handlers. Invariant: every API of ``wire.apis`` has a row (a test compares).
"""

from collections.abc import Mapping

from logbroker.broker.services import Services
from logbroker.kafka_api import metadata, offsets, producers, versions
from logbroker.kafka_api.fetch import Fetch
from logbroker.kafka_api.produce import Produce
from logbroker.kafka_api.registry import Cold, Hot
from logbroker.wire.apis import Api


def handlers_on(services: Services) -> Mapping[Api, Cold | Hot]:
    """The handlers of a door over ``services``."""
    return {
        Api.PRODUCE: Hot(Produce(services)),
        Api.FETCH: Hot(Fetch(services)),
        Api.LIST_OFFSETS: Cold(offsets.list_offsets, offsets.refuse_list_offsets),
        Api.METADATA: Cold(metadata.metadata, metadata.refuse),
        Api.API_VERSIONS: Cold(versions.api_versions),
        Api.INIT_PRODUCER_ID: Cold(producers.init_producer_id),
        Api.OFFSET_FOR_LEADER_EPOCH: Cold(offsets.offset_for_leader_epoch, offsets.refuse_offset_for_leader_epoch),
    }
