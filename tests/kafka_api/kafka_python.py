"""kafka-python's public names, imported without the warnings that its import gives (``importlib.resources.read_text``)."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import kafka.protocol.admin
    import kafka.protocol.consumer
    import kafka.protocol.metadata
    import kafka.protocol.producer  # noqa: F401 - whatever is imported later would warn later
    from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition

__all__ = ["KafkaAdminClient", "KafkaConsumer", "KafkaProducer", "TopicPartition"]
