"""A member of a consumer group as a process of its own, to be killed: ``member.py ADDRESS GROUP TOPIC STRATEGY``.

It prints ``assigned N`` and, for every record it has processed and committed, ``PARTITION OFFSET VALUE``.
"""

import sys

from confluent_kafka import Consumer, KafkaException
from confluent_kafka import TopicPartition as Where

SESSION_MS = 1_500
HEARTBEAT_MS = 200


def consumer_settings(address: str, group: str, strategy: str) -> dict[str, object]:
    """What all members of the tests use: short timeouts, positions committed by hand.

    The strategy "consumer" is KIP-848's protocol, in which the broker assigns and sets the timeouts.
    """
    classic = {
        "partition.assignment.strategy": strategy,
        "session.timeout.ms": SESSION_MS,
        "heartbeat.interval.ms": HEARTBEAT_MS,
    }
    return {
        "bootstrap.servers": address,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "fetch.wait.max.ms": 100,
        "topic.metadata.refresh.interval.ms": 500,
        **({"group.protocol": "consumer"} if strategy == "consumer" else classic),
    }


def tell(*words: object) -> None:
    """One line on stdout, at once."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def main(address: str, group: str, topic: str, strategy: str) -> None:
    consumer = Consumer(consumer_settings(address, group, strategy))
    consumer.subscribe([topic], on_assign=lambda _, parts: tell("assigned", len(parts)))
    while True:
        message = consumer.poll(0.1)
        if message is None or message.error():
            continue
        position = Where(message.topic(), message.partition(), message.offset() + 1)
        try:
            consumer.commit(offsets=[position], asynchronous=False)
        except KafkaException:
            continue  # fenced while a rebalance goes on: whoever has the partition now will process it
        tell(message.partition(), message.offset(), message.value().decode())


if __name__ == "__main__":
    main(*sys.argv[1:])
