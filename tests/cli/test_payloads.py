"""Records on the command line: nothing is lost between ``consume -o jsonl`` and ``produce --input jsonl``."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logbroker.cli.payloads import RECORD_FIELDS, columns, formatted, from_wire, producible, readable, to_wire
from logbroker.errors import InvalidRequest

payloads = st.none() | st.binary(max_size=40) | st.text(max_size=20).map(str.encode)


def as_read(key: bytes | None, value: bytes | None, **more: Any) -> dict[str, Any]:
    """A record as the broker writes it with ``encoding=b64``."""
    record: dict[str, Any] = {"partition": 1, "offset": 7, "timestamp_ms": 1_384_000_000_000, **more}
    for field, data in (("key", key), ("value", value)):
        record |= {field: None} if data is None else {f"{field}_b64": base64.b64encode(data).decode()}
    return record


@given(payloads, payloads)
def test_a_consumed_record_is_produced_again_with_the_same_bytes(key: bytes | None, value: bytes | None) -> None:
    line = json.dumps({"topic": "t", **readable(as_read(key, value, headers=[["a", "b"], ["a", {"b64": "/w=="}]]))})
    again = producible(line.encode(), 1, RECORD_FIELDS)
    assert (from_wire(again, "key"), from_wire(again, "value")) == (key, value)
    assert again["headers"] == [["a", "b"], ["a", {"b64": "/w=="}]]
    assert (again["partition"], again["timestamp_ms"]) == (1, 1_384_000_000_000)
    assert not again.keys() & {"topic", "offset"}


def test_text_travels_as_text_and_other_bytes_as_base64() -> None:
    assert to_wire("value", "grün".encode()) == {"value": "grün"}
    assert to_wire("value", b"\xff") == {"value_b64": "/w=="}
    assert to_wire("key", None) == {"key": None}


def test_json_is_not_rewritten_on_the_way() -> None:
    value = b'{"a": 1.0,  "a":2}'
    assert readable(as_read(None, value))["value"] == value.decode()


def test_a_record_without_a_time_is_produced_without_one() -> None:
    assert "timestamp_ms" not in producible(b'{"value": "x", "timestamp_ms": -1}', 1, RECORD_FIELDS)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"{", "line 3 is no JSON"),
        (b"[1]", "line 3 is no JSON object"),
        (b'{"vlaue": 1}', "line 3: a record has no field 'vlaue'"),
    ],
)
def test_a_bad_line_is_named(line: bytes, complaint: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        producible(line, 3, RECORD_FIELDS)
    assert caught.value.detail.startswith(complaint)


def test_a_format_fills_in_every_word() -> None:
    record = {"topic": "orders", **as_read(b"k", b"\xff%v", headers=[["h", "1"]])}
    assert formatted(r"%t/%p@%o %T %k=%v %h %%\t\n", record) == b'orders/1@7 1384000000000 k=\xff%v [["h", "1"]] %\t\n'


def test_a_column_stays_on_its_line() -> None:
    assert columns(as_read(None, b"a\tb\nc\xff\\")) == ["1", "7", "2013-11-09T12:26:40.000Z", "-", r"a\tb\nc\xff\\"]
