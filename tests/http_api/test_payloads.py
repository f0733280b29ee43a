"""Records to JSON and back: nothing is lost, whatever the bytes."""

import base64
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logbroker.errors import InvalidRequest
from logbroker.http_api.payloads import Encoding, RecordIn, to_payload, to_record, to_records
from logbroker.model import Header, Record, StoredRecord

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
contents = st.none() | st.binary(max_size=40) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass"))
json_contents = json_values.map(lambda value: msgspec.json.format(msgspec.json.encode(value), indent=2))
headers = st.lists(
    st.tuples(st.text(st.characters(exclude_categories=["Cs"]), max_size=10), contents)
    | st.just(("content-type", b"application/json")),
    max_size=3,
).map(lambda pairs: tuple(Header(name, value) for name, value in pairs))
encodings: st.SearchStrategy[Encoding] = st.sampled_from(["auto", "text", "json", "b64"])


def reproduced(record: StoredRecord, encoding: Encoding) -> Record:
    """The record after a client has read it and produced what it read."""
    read: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(to_payload(3, record, encoding)))
    kept = {name: value for name, value in read.items() if name not in ("partition", "offset")}
    return to_record(msgspec.json.decode(msgspec.json.encode(kept), type=RecordIn), 0)


@given(contents, contents, headers, encodings)
def test_bytes_come_back_as_they_were(
    key: bytes | None, value: bytes | None, given_headers: tuple[Header, ...], encoding: Encoding
) -> None:
    record = StoredRecord(7, 5, key, value, given_headers)
    payload = msgspec.json.decode(msgspec.json.encode(to_payload(3, record, encoding)))
    assert bytes_of(payload, "key", key) == key
    assert bytes_of(payload, "value", value) == value
    assert [(name, header_bytes(one)) for name, one in payload["headers"]] == [tuple(one) for one in given_headers]
    assert reproduced(record, encoding if encoding != "json" else "b64").key == key


def bytes_of(payload: dict[str, Any], name: str, original: bytes | None) -> bytes | None:
    """What a client gets from the one field that is there; for JSON, the original where it means the same."""
    [field] = [one for one in (name, f"{name}_json", f"{name}_b64") if one in payload]
    if field == f"{name}_json":
        assert original is not None
        assert msgspec.json.decode(original) == payload[field]
        return original
    if field == f"{name}_b64":
        return base64.b64decode(payload[field])
    return None if payload[field] is None else payload[field].encode()


def header_bytes(value: Any) -> bytes | None:
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else None if value is None else value.encode()


@given(json_contents)
def test_a_json_value_is_one_line_when_it_is_read(value: bytes) -> None:
    record = StoredRecord(0, 0, None, value, (Header("Content-Type", b"application/vnd.x+json; charset=utf-8"),))
    line = msgspec.json.encode(to_payload(0, record))
    assert b"\n" not in line
    assert msgspec.json.decode(line)["value_json"] == msgspec.json.decode(value)


def test_a_json_value_says_so_in_its_headers_unless_they_say_something_else() -> None:
    plain = to_record(msgspec.json.decode(b'{"value_json":{}}', type=RecordIn), 0)
    among = to_record(msgspec.json.decode(b'{"value_json":{},"headers":[["a","b"]]}', type=RecordIn), 0)
    typed = to_record(msgspec.json.decode(b'{"value_json":{},"headers":[["Content-Type","a/b+json"]]}', type=RecordIn), 0)
    assert plain.headers == (Header("content-type", b"application/json"),)
    assert among.headers == (Header("a", b"b"), Header("content-type", b"application/json"))
    assert typed.headers == (Header("Content-Type", b"a/b+json"),)


def test_common_headers_come_after_those_of_the_record() -> None:
    one = msgspec.json.decode(b'{"value":"a","headers":[["a","1"]]}', type=RecordIn)
    assert to_record(one, 0, (Header("t", b"2"),)).headers == (Header("a", b"1"), Header("t", b"2"))


def test_a_record_without_a_time_gets_the_present() -> None:
    given_records = [RecordIn(value="a"), RecordIn(value="b", timestamp_ms=0)]
    assert [record.timestamp_ms for record in to_records(given_records, 77)] == [77, 0]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{}", "value"),
        (b'{"value":null,"value_json":null}', "value"),
        (b'{"value_json":1,"value_b64":""}', "value_json"),
        (b'{"value":"a","key":"a","key_b64":""}', "key"),
        (b'{"value":"a","key_json":1,"key_b64":""}', "key_json"),
    ],
)
def test_more_or_less_than_one_form_is_refused(body: bytes, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        to_record(msgspec.json.decode(body, type=RecordIn), 0)
    assert refused.value.fields["field"] == field
