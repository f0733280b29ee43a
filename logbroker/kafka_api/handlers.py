"""Which handler serves which API.

What lives here: the table. What may not: handlers. Invariant: every API of ``wire.apis`` has a row (a test compares).
"""

from collections.abc import Mapping

from logbroker.broker.services import Services
from logbroker.kafka_api import (
    cluster,
    configs,
    consumer_groups,
    fetch,
    groups_admin,
    groups_membership,
    groups_offsets,
    metadata,
    offsets,
    produce,
    producers,
    topics_admin,
    transactions,
    versions,
)
from logbroker.kafka_api.registry import Cold, Hot
from logbroker.wire.apis import Api


def handlers_on(services: Services) -> Mapping[Api, Cold | Hot]:
    """The handlers of a door over ``services``."""
    return {
        Api.PRODUCE: Hot(produce.Produce(services), produce.refuse),
        Api.FETCH: Hot(fetch.Fetch(services), fetch.refuse),
        Api.LIST_OFFSETS: Cold(offsets.list_offsets, offsets.refuse_list_offsets),
        Api.METADATA: Cold(metadata.metadata, metadata.refuse),
        Api.OFFSET_COMMIT: Cold(groups_offsets.offset_commit, groups_offsets.refuse_offset_commit),
        Api.OFFSET_FETCH: Cold(groups_offsets.offset_fetch, groups_offsets.refuse_offset_fetch),
        Api.FIND_COORDINATOR: Cold(groups_membership.find_coordinator, groups_membership.refuse_find_coordinator),
        Api.JOIN_GROUP: Cold(groups_membership.join_group),
        Api.HEARTBEAT: Cold(groups_membership.heartbeat),
        Api.LEAVE_GROUP: Cold(groups_membership.leave_group),
        Api.SYNC_GROUP: Cold(groups_membership.sync_group),
        Api.DESCRIBE_GROUPS: Cold(groups_admin.describe_groups, groups_admin.refuse_describe_groups),
        Api.LIST_GROUPS: Cold(groups_admin.list_groups),
        Api.API_VERSIONS: Cold(versions.api_versions),
        Api.INIT_PRODUCER_ID: Cold(producers.init_producer_id),
        Api.OFFSET_FOR_LEADER_EPOCH: Cold(offsets.offset_for_leader_epoch, offsets.refuse_offset_for_leader_epoch),
        Api.ADD_PARTITIONS_TO_TXN: Cold(transactions.add_partitions_to_txn, transactions.refuse_add_partitions),
        Api.ADD_OFFSETS_TO_TXN: Cold(transactions.add_offsets_to_txn),
        Api.END_TXN: Cold(transactions.end_txn),
        Api.TXN_OFFSET_COMMIT: Cold(transactions.txn_offset_commit, transactions.refuse_txn_offset_commit),
        Api.CREATE_TOPICS: Cold(topics_admin.create_topics, topics_admin.refuse_create_topics),
        Api.DELETE_TOPICS: Cold(topics_admin.delete_topics, topics_admin.refuse_delete_topics),
        Api.DELETE_RECORDS: Cold(topics_admin.delete_records, topics_admin.refuse_delete_records),
        Api.DESCRIBE_ACLS: Cold(cluster.describe_acls),
        Api.DESCRIBE_CONFIGS: Cold(configs.describe_configs, configs.refuse_describe),
        Api.ALTER_CONFIGS: Cold(configs.alter_configs, configs.refuse_alter),
        Api.ALTER_REPLICA_LOG_DIRS: Cold(cluster.alter_replica_log_dirs, cluster.refuse_alter_replica_log_dirs),
        Api.DESCRIBE_LOG_DIRS: Cold(cluster.describe_log_dirs),
        Api.CREATE_PARTITIONS: Cold(topics_admin.create_partitions, topics_admin.refuse_create_partitions),
        Api.DELETE_GROUPS: Cold(groups_admin.delete_groups, groups_admin.refuse_delete_groups),
        Api.ELECT_LEADERS: Cold(cluster.elect_leaders),
        Api.INCREMENTAL_ALTER_CONFIGS: Cold(configs.incremental_alter_configs, configs.refuse_alter),
        Api.ALTER_PARTITION_REASSIGNMENTS: Cold(cluster.alter_partition_reassignments),
        Api.LIST_PARTITION_REASSIGNMENTS: Cold(cluster.list_partition_reassignments),
        Api.OFFSET_DELETE: Cold(groups_offsets.offset_delete),
        Api.DESCRIBE_USER_SCRAM_CREDENTIALS: Cold(cluster.describe_user_scram_credentials),
        Api.DESCRIBE_QUORUM: Cold(cluster.describe_quorum),
        Api.DESCRIBE_CLUSTER: Cold(cluster.describe_cluster),
        Api.DESCRIBE_PRODUCERS: Cold(producers.describe_producers, producers.refuse_describe_producers),
        Api.DESCRIBE_TRANSACTIONS: Cold(transactions.describe_transactions, transactions.refuse_describe_transactions),
        Api.LIST_TRANSACTIONS: Cold(transactions.list_transactions),
        Api.CONSUMER_GROUP_HEARTBEAT: Cold(consumer_groups.heartbeat),
        Api.CONSUMER_GROUP_DESCRIBE: Cold(consumer_groups.describe, consumer_groups.refuse_describe),
    }
