"""Topics over HTTP: creation is idempotent, changes are conditional, reserved names are refused."""

import pytest

from tests.http_api.conftest import Door

pytestmark = pytest.mark.asyncio


async def test_a_topic_is_created_described_listed_and_deleted(door: Door) -> None:
    created = await door("PUT", "/v1/topics/orders", {"partitions": 3, "config": {"retention_ms": 5_000}})
    assert created.status == 201
    described = await door("GET", "/v1/topics/orders")
    assert described.json == created.json
    assert described.json["partitions"] == 3
    assert described.json["kind"] == "log"
    assert described.json["config"] == {"retention_ms": 5_000}
    listed = await door("GET", "/v1/topics")
    assert [(one["name"], one["partitions"], one["records"]) for one in listed.json["items"]] == [("orders", 3, 0)]
    assert (await door("DELETE", "/v1/topics/orders")).status == 204
    assert (await door("GET", "/v1/topics/orders")).failure == (404, "UNKNOWN_TOPIC_OR_PARTITION")


async def test_creating_the_same_topic_again_answers_200(door: Door) -> None:
    declaration = {"partitions": 2, "config": {"retention_ms": 1}}
    assert (await door("PUT", "/v1/topics/orders", declaration)).status == 201
    assert (await door("PUT", "/v1/topics/orders", declaration)).status == 200


@pytest.mark.parametrize("other", [{"partitions": 3}, {"partitions": 2, "config": {"retention_ms": 1}}])
async def test_creating_a_different_topic_of_that_name_is_a_conflict(door: Door, other: dict[str, object]) -> None:
    await door.topic(partitions=2)
    assert (await door("PUT", "/v1/topics/orders", other)).failure == (409, "CONFIG_CONFLICT")
    assert (await door("GET", "/v1/topics/orders")).json["partitions"] == 2


async def test_replace_makes_the_topic_as_declared_and_drops_what_is_not_declared(door: Door) -> None:
    await door.topic(partitions=2, retention_ms=1, retention_bytes=7)
    answer = await door("PUT", "/v1/topics/orders?replace=true", {"partitions": 4, "config": {"retention_ms": 9}})
    assert answer.status == 200
    assert (answer.json["partitions"], answer.json["config"]) == (4, {"retention_ms": 9})


async def test_a_replacement_with_fewer_partitions_changes_nothing(door: Door) -> None:
    await door.topic(partitions=2)
    answer = await door("PUT", "/v1/topics/orders?replace=true", {"partitions": 1, "config": {"retention_ms": 9}})
    assert answer.failure == (400, "INVALID_PARTITIONS")
    assert (await door("GET", "/v1/topics/orders")).json["config"] == {}


async def test_if_match_replaces_only_the_state_it_names(door: Door) -> None:
    await door.topic()
    tag = (await door("GET", "/v1/topics/orders")).headers["ETag"]
    changed = await door("PATCH", "/v1/topics/orders", {"config": {"retention_ms": 1}}, headers={"If-Match": tag})
    assert changed.status == 200
    assert changed.headers["ETag"] != tag
    for method, body in (("PUT", {"config": {}}), ("PATCH", {"partitions": 2}), ("DELETE", None)):
        late = await door(method, "/v1/topics/orders", body, headers={"If-Match": tag})
        assert late.failure == (412, "PRECONDITION_FAILED"), method
    current = (await door("GET", "/v1/topics/orders/config")).headers["ETag"]
    assert current == changed.headers["ETag"]
    assert (await door("PUT", "/v1/topics/orders", {"config": {}}, headers={"If-Match": current})).status == 200


async def test_a_merge_patch_sets_unsets_and_grows(door: Door) -> None:
    await door.topic(retention_ms=1, retention_bytes=7)
    headers = {"Content-Type": "application/merge-patch+json"}
    patch = b'{"partitions": 2, "config": {"retention_ms": null, "segment_ms": 5}}'
    answer = await door("PATCH", "/v1/topics/orders", patch, headers=headers)
    assert (answer.json["partitions"], answer.json["config"]) == (2, {"retention_bytes": 7, "segment_ms": 5})
    cleared = await door("PATCH", "/v1/topics/orders", {"config": None})
    assert cleared.json["config"] == {}


async def test_a_patch_with_one_bad_part_changes_nothing(door: Door) -> None:
    await door.topic()
    for patch in ({"partitions": 2, "config": {"nix": 1}}, {"partitions": 2, "config": {"retention_ms": "x"}}):
        assert (await door("PATCH", "/v1/topics/orders", patch)).failure == (400, "INVALID_CONFIG")
    assert (await door("PATCH", "/v1/topics/orders", {"config": {"nix": None}})).failure == (400, "INVALID_CONFIG")
    assert (await door("GET", "/v1/topics/orders")).json["partitions"] == 1


async def test_every_setting_tells_its_source_and_meaning(door: Door) -> None:
    await door.topic(retention_ms=77)
    config = (await door("GET", "/v1/topics/orders/config")).json["config"]
    assert config["retention_ms"]["value"] == 77
    assert config["retention_ms"]["source"] == "topic"
    assert config["segment_bytes"]["source"] == "default"
    assert all(setting["doc"] for setting in config.values())


async def test_deleting_what_is_not_there_is_404_unless_that_is_fine(door: Door) -> None:
    assert (await door("DELETE", "/v1/topics/nix")).failure == (404, "UNKNOWN_TOPIC_OR_PARTITION")
    assert (await door("DELETE", "/v1/topics/nix?missing_ok=true")).status == 204


@pytest.mark.parametrize("name", ["orders.retry", "orders.dlq", "__groups", ".retry"])
async def test_reserved_names_are_refused_whatever_is_to_be_changed(door: Door, name: str) -> None:
    await door.services.engine.create_topic(name, 1, {})
    refused = (403, "TOPIC_RESERVED")
    assert (await door("PUT", f"/v1/topics/{name}", {})).failure == refused
    assert (await door("PATCH", f"/v1/topics/{name}", {})).failure == refused
    assert (await door("DELETE", f"/v1/topics/{name}")).failure == refused
    assert (await door("POST", f"/v1/topics/{name}/records", {"records": [{"value": "x"}]})).failure == refused
    raw = await door("POST", f"/v1/topics/{name}/records", b"x", headers={"Content-Type": "text/plain"})
    assert raw.failure == refused
    lines = await door("POST", f"/v1/topics/{name}/records", b"{}\n", headers={"Content-Type": "application/x-ndjson"})
    assert lines.failure == refused
    batch = await door("POST", f"/v1/topics/{name}/partitions/0/batches", b"x")
    assert batch.failure == refused
    assert (await door("POST", f"/v1/topics/{name}:trim", {"partitions": [{"partition": 0}]})).failure == refused
    assert await door.values(topic=name) == []


async def test_a_topic_that_belongs_to_a_queue_is_not_deleted(door: Door) -> None:
    await door.services.engine.create_topic("jobs", 1, {}, owner="queue:jobs")
    assert (await door("DELETE", "/v1/topics/jobs")).failure == (409, "TOPIC_IN_USE")
    assert (await door("GET", "/v1/topics/jobs")).json["kind"] == "queue"


async def test_the_broker_has_room_for_so_many_partitions(door: Door) -> None:
    await door.topic("a", partitions=30)
    assert (await door("PUT", "/v1/topics/b", {"partitions": 21})).failure == (400, "INVALID_PARTITIONS")
    await door.topic("b", partitions=20)
    assert (await door("PATCH", "/v1/topics/b", {"partitions": 21})).failure == (400, "INVALID_PARTITIONS")
    assert (await door("PUT", "/v1/topics/c", {"partitions": 0})).failure == (400, "INVALID_REQUEST")


async def test_topics_are_listed_by_name_in_pages(door: Door) -> None:
    for name in ("b", "a2", "a1", "c"):
        await door.topic(name)
    await door.services.engine.create_topic("__internal", 1, {})
    first = (await door("GET", "/v1/topics?page_size=3")).json
    second = (await door("GET", f"/v1/topics?page_size=3&page_token={first['next_page_token']}")).json
    assert [one["name"] for one in first["items"] + second["items"]] == ["a1", "a2", "b", "c"]
    assert second["next_page_token"] is None
    assert [one["name"] for one in (await door("GET", "/v1/topics?prefix=a")).json["items"]] == ["a1", "a2"]
    internal = (await door("GET", "/v1/topics?internal=true&prefix=__")).json["items"]
    assert [(one["name"], one["kind"]) for one in internal] == [("__internal", "internal")]


async def test_a_deleted_item_does_not_shift_the_next_page(door: Door) -> None:
    for name in ("a", "b", "c"):
        await door.topic(name)
    first = (await door("GET", "/v1/topics?page_size=2")).json
    await door("DELETE", "/v1/topics/a")
    second = (await door("GET", f"/v1/topics?page_size=2&page_token={first['next_page_token']}")).json
    assert [one["name"] for one in second["items"]] == ["c"]


async def test_a_token_that_was_never_given_is_refused(door: Door) -> None:
    await door.topic()
    for token in ("x", "!!!", "MTI", "%C3%BC"):
        assert (await door("GET", f"/v1/topics?page_token={token}")).failure == (400, "INVALID_REQUEST"), token
