"""Topics, records and positions, in process."""

from logbroker.broker.fetch import Start
from logbroker.broker.produce import Produced, Terms
from logbroker.broker.services import Services
from logbroker.broker.topics import TopicSize, kind_of
from logbroker.client.calls import records as r
from logbroker.client.calls import topics as t
from logbroker.client.calls.base import Page, given
from logbroker.client.payloads import Headers
from logbroker.client.problems import refuse_if_all_failed
from logbroker.embedded.handlers import carries_out, checked, told, whole
from logbroker.engine.api import NO_PRODUCER
from logbroker.errors import InvalidRequest, LogbrokerError, UnknownTopicOrPartition
from logbroker.http_api.fetch import FetchIn, limits_of
from logbroker.http_api.partitions import partition_or_damage
from logbroker.http_api.payloads import MAX_RECORDS, RecordIn
from logbroker.http_api.topics import TopicIn, TopicPatch, topic_out
from logbroker.model import StoredRecord, TopicPartition


@carries_out(t.PutTopic)
async def put_topic(services: Services, call: t.PutTopic) -> t.Topic:
    wanted = checked(TopicIn, given(partitions=call.partitions, config=dict(call.config)))
    info, _ = await services.topics.ensure(call.name, wanted.partitions, wanted.config)
    return told(await topic_out(services, info), t.Topic)


@carries_out(t.GetTopic)
async def get_topic(services: Services, call: t.GetTopic) -> t.Topic:
    return told(await topic_out(services, services.topics.get(call.name)), t.Topic)


@carries_out(t.ListTopics)
async def list_topics(services: Services, call: t.ListTopics) -> Page[t.TopicSummary]:
    found: list[t.TopicSummary] = []
    for info in services.topics.list(call.prefix, internal=call.internal):
        size: TopicSize = await services.topics.size(info)
        found.append(t.TopicSummary(info.name, kind_of(info), info.partitions, *size))
    return whole(found)


@carries_out(t.PatchTopic)
async def patch_topic(services: Services, call: t.PatchTopic) -> t.Topic:
    checked(TopicPatch, given(partitions=call.partitions, config=dict(call.config)))
    info = await services.topics.alter(call.name, call.partitions, call.config)
    return told(await topic_out(services, info), t.Topic)


@carries_out(t.DeleteTopic)
async def delete_topic(services: Services, call: t.DeleteTopic) -> None:
    try:
        await services.topics.delete(call.name)
    except UnknownTopicOrPartition:
        if not call.missing_ok:
            raise


@carries_out(t.ListPartitions)
async def list_partitions(services: Services, call: t.ListPartitions) -> Page[t.Bounds]:
    info = services.topics.get(call.topic)
    found = [await partition_or_damage(services, TopicPartition(info.name, at)) for at in range(info.partitions)]
    return whole(
        [t.Bounds(one.partition, one.log_start_offset, one.high_watermark, one.last_stable_offset) for one in found]
    )


@carries_out(t.FindOffset)
async def find_offset(services: Services, call: t.FindOffset) -> t.FoundOffset:
    where = services.topics.partition(call.topic, call.partition)
    found = await services.engine.offset_at(where, call.timestamp_ms)
    return t.FoundOffset(None, None) if found is None else t.FoundOffset(*found)


# -- records -----------------------------------------------------------------------------------------------------------


@carries_out(r.Produce)
async def produce(services: Services, call: r.Produce) -> list[r.RecordMetadata | LogbrokerError]:
    if len(call.records) > MAX_RECORDS:
        raise InvalidRequest(f"a request takes at most {MAX_RECORDS} records")
    for one in call.records:
        if one.partition is not None or one.record.timestamp_ms is not None:
            checked(RecordIn, given(partition=one.partition, timestamp_ms=one.record.timestamp_ms))
    partitions = [one.partition for one in call.records]
    named = partitions.count(None) < len(partitions)
    terms = Terms(atomic=call.atomic, producer=call.producer or NO_PRODUCER)
    records = [one.record for one in call.records]
    outcomes = await services.produce.produce(call.topic, records, partitions if named else None, terms)
    refuse_if_all_failed(outcomes)
    return [
        r.RecordMetadata(call.topic, one.partition, one.offset, one.timestamp_ms) if isinstance(one, Produced) else one
        for one in outcomes
    ]


@carries_out(r.RegisterProducer)
async def register_producer(services: Services, call: r.RegisterProducer) -> r.ProducerId:
    return r.ProducerId(await services.engine.allocate_producer_id(), 0)


@carries_out(r.FetchMany)
async def fetch_many(services: Services, call: r.FetchMany) -> list[r.FetchedPartition]:
    wanted = checked(
        FetchIn,
        given(
            partitions=[one._asdict() for one in call.positions],
            max_records=call.max_records,
            max_bytes=call.max_bytes,
            wait_ms=call.wait_ms,
            isolation=call.isolation,
            filter=call.filter,
        ),
    )
    starts = [Start(services.topics.partition(one.topic, one.partition), one.offset) for one in call.positions]
    answers = await services.fetch.fetch_many(starts, limits_of(services, wanted))
    refuse_if_all_failed(answers)
    return [
        r.FetchedPartition(position, [], position.offset, answer)
        if isinstance(answer, LogbrokerError)
        else r.FetchedPartition(position, [record_of(answer.where, one) for one in answer.records], answer.next_offset)
        for position, answer in zip(call.positions, answers, strict=True)
    ]


def record_of(where: TopicPartition, record: StoredRecord) -> r.Record:
    """A record as the client has it."""
    return r.Record(
        where.topic,
        where.partition,
        record.offset,
        record.timestamp_ms,
        record.key,
        record.value,
        Headers(record.headers),
    )
