"""The table of APIs: consistent with the message definitions and with one release of Kafka."""

import warnings

import pytest

from logbroker.wire.apis import API_BY_KEY, NEVER_FLEXIBLE, Api
from logbroker.wire.codes import ErrorCode
from logbroker.wire.definitions import load_definition
from tests.wire.peers import ids

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka.protocol.broker_version_data import BROKER_API_VERSIONS, infer_broker_version_from_api_versions

from kio.schema.errors import ErrorCode as KioErrorCode

every_api = pytest.mark.parametrize("api", list(Api), ids=ids)


@every_api
def test_a_row_agrees_with_the_definition_of_its_messages(api: Api) -> None:
    for kind in ("Request", "Response"):
        definition = load_definition(api.message_name + kind)
        assert definition.versions.covers(api.min_served)
        assert definition.versions.covers(api.max_version)
        first_flexible = definition.flexible.first if definition.flexible.last else NEVER_FLEXIBLE
        assert first_flexible == api.flexible_from


@every_api
def test_every_range_lies_inside_the_one_of_kafka_4_1(api: Api) -> None:
    lowest, highest = BROKER_API_VERSIONS[(4, 1)][api.key]
    assert lowest <= api.min_version <= api.min_served <= api.max_version <= highest


def test_a_client_takes_this_broker_for_kafka_4_0() -> None:
    advertised = {api.key: (api.min_version, api.max_version) for api in Api}
    assert infer_broker_version_from_api_versions(advertised) == (4, 0)


def test_produce_is_advertised_from_v0_and_served_from_v3() -> None:
    assert Api.PRODUCE.min_version == 0
    assert [Api.PRODUCE.serves(version) for version in (-1, 0, 2, 3, 12, 13)] == [False, False, False, True, True, False]


def test_the_answer_to_api_versions_never_has_a_flexible_header() -> None:
    assert {Api.API_VERSIONS.response_header_version(version) for version in range(5)} == {0}
    assert [Api.METADATA.response_header_version(version) for version in (8, 9)] == [0, 1]
    assert Api.OFFSET_DELETE.response_header_version(0) == 0


def test_keys_are_unique() -> None:
    assert len(API_BY_KEY) == len(Api)
    assert API_BY_KEY[18] is Api.API_VERSIONS


def test_error_codes_are_those_of_kafka() -> None:
    for code in ErrorCode:
        assert int(KioErrorCode[code.name.lower()]) == int(code)
