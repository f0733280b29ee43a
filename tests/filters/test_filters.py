"""Filters: variables, verdicts, refusals and bounds."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logbroker.errors import FilterInvalid
from logbroker.filters import MAX_FILTER_BYTES, DeadLetterFacts, Filter, Verdict, compile_filter
from logbroker.filters.cel import compile_program
from logbroker.filters.filter import MAX_HEAVY_BYTES, MAX_VALUE_BYTES
from logbroker.model import Header, StoredRecord, TopicPartition

WHERE = TopicPartition("orders", 2)
MATCH, NO_MATCH, ERROR = Verdict.MATCH, Verdict.NO_MATCH, Verdict.ERROR


def record(
    value: bytes | None = b"{}",
    key: bytes | None = None,
    headers: Sequence[tuple[str, bytes | None]] = (),
    *,
    offset: int = 7,
    timestamp_ms: int = 1_700_000_000_000,
) -> StoredRecord:
    return StoredRecord(offset, timestamp_ms, key, value, tuple(Header(*one) for one in headers))


def verdict(text: str, one: StoredRecord, letter: DeadLetterFacts | None = None) -> Verdict:
    return compile_filter(text).verdict(one, WHERE, letter)


@pytest.mark.parametrize(
    ("text", "one"),
    [
        ('key == "k1"', record(key=b"k1")),
        ("key == null", record(key=None)),
        ('key == "/w=="', record(key=b"\xff")),
        ('headers.region == "eu"', record(headers=[("region", b"us"), ("region", b"eu")])),
        ('headers["content-type"] == "x"', record(headers=[("content-type", b"x")])),
        ('headers.b == "/w=="', record(headers=[("b", b"\xff")])),
        ("headers.n == null", record(headers=[("n", None)])),
        ("value.amount > 10 && value.items[1].sku.startsWith('a')", record(b'{"amount":11,"items":[{},{"sku":"ab"}]}')),
        ('value == "plain text"', record(b"plain text")),
        ('value == "/w=="', record(b"\xff")),
        ("value == null", record(None)),
        ("value.big > 1.0", record(b'{"big":123456789012345678901234567890}')),
        (
            'key == "YQBi" && headers == {"a": "YQBi", "YQA=": "c"}',
            record(key=b"a\0b", headers=[("a", b"a\0b"), ("a\0", b"c")]),
        ),
        ('value == {"a": "YQBi", "YQBi": 1} && value != "a"', record(b'{"a":"a\\u0000b","a\\u0000b":1}')),
        ('value == "YQBi"', record(b"a\0b")),
        ("value.n == 9223372036854775807", record(b'{"n":9223372036854775807}')),
        ("timestamp == 1700000000000 && offset == 7 && partition == 2 && topic == 'orders'", record()),
        ("has(value.a) ? value.a == 1 : true", record(b'{"b":1}')),
        ("value.items.exists(i, i.sku == 'x')", record(b'{"items":[{"sku":"x"}]}')),
        ("true || value.absent == 1", record()),
    ],
)
def test_an_expression_sees_the_record(text: str, one: StoredRecord) -> None:
    assert verdict(text, one) is MATCH
    assert verdict(f"!({text})", one) is NO_MATCH


@pytest.mark.parametrize(
    ("text", "one"),
    [
        ('headers.region == "eu"', record()),
        ("value.amount > 10", record(b"{}")),
        ("value.amount > 10", record(b"text")),
        ("value.amount > 10", record(None)),
        ("value.amount > 10", record(b'{"amount":"many"}')),
        ("1 / value.n == 1", record(b'{"n":0}')),
        ("failures > 1", record()),
        ('error.contains("x") || reason == "y"', record()),
        ("".join(f"[0,1,2,3,4,5,6,7,8,9].all({name}, " for name in "abcde") + "true" + ")" * 5, record()),
        ("value.l.all(x, value.l.all(y, true))", record(json.dumps({"l": list(range(200))}).encode())),
    ],
)
def test_an_expression_that_fails_on_a_record_does_not_match(text: str, one: StoredRecord) -> None:
    assert verdict(text, one) is ERROR
    assert not compile_filter(text).matches(one, WHERE)


def test_dead_letters_have_an_error_failures_and_a_reason() -> None:
    letter = DeadLetterFacts("timeout after 3 s", 4, "max_attempts")
    assert verdict('error.contains("timeout") && failures == 4 && reason == "max_attempts"', record(), letter) is MATCH
    assert verdict("error == null", record(), letter._replace(error=None)) is MATCH


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("headers.x ==", 1, 13),
        ("foo > 1", 1, 1),
        ("true &&\n  foo", 2, 3),
        ('key == "é😀" && foo', 1, 16),
        ("offset + 1", 1, 1),
        ("value.paid", 1, 1),
        ("", 1, 1),
    ],
)
def test_a_bad_expression_is_refused_with_its_place(text: str, line: int, column: int) -> None:
    with pytest.raises(FilterInvalid) as refused:
        compile_filter(text)
    assert (refused.value.fields["line"], refused.value.fields["column"]) == (line, column)
    assert "INVALID_ARGUMENT" not in refused.value.detail


@pytest.mark.parametrize(
    "text",
    [
        "true" + " || true" * 600,
        "(" * 1000 + "true" + ")" * 1000,
        "value" + ".a" * 1000 + " == 1",
        "1" + "+1" * 1000 + " == 1",
        "'\ud800' == key",
        "true\0",
    ],
)
def test_an_expression_that_is_too_long_or_too_deep_is_refused(text: str) -> None:
    with pytest.raises(FilterInvalid):
        compile_filter(text)


def test_the_limit_on_its_length_is_in_bytes() -> None:
    longest = 'key == "' + "é" * ((MAX_FILTER_BYTES - 9) // 2) + '"'
    assert compile_filter(longest).text == longest
    with pytest.raises(FilterInvalid, match="4096"):
        compile_filter(longest + "  ")


@given(st.text())
def test_any_text_is_compiled_or_refused(text: str) -> None:
    try:
        compile_filter(text)
    except FilterInvalid as refused:
        assert refused.detail


NAMES = st.sampled_from(["x", "y", "content-type", ""]) | st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
VALUES = st.none() | st.sampled_from([b"a", b"", b"\xff", b"/w=="]) | st.binary(max_size=4)
PLAIN = st.sampled_from(["a", "", "/w=="]) | st.text(st.characters(exclude_categories=["Cs"]), max_size=3)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=4), NAMES, PLAIN, st.booleans())
def test_the_direct_path_says_what_the_expression_says(
    headers: list[tuple[str, bytes | None]], name: str, wanted: str, dotted: bool
) -> None:
    text = f'headers.{name} == "{wanted}"' if dotted else f'headers["{name}"] == "{wanted}"'
    try:
        asked = compile_filter(text)
    except FilterInvalid:
        return
    slow = compile_filter(f"({text}) && true")
    one = record(headers=headers)
    assert asked.verdict(one, WHERE) is slow.verdict(one, WHERE)


def test_the_direct_path_is_taken() -> None:
    def never(variables: object) -> Verdict:
        raise AssertionError("the direct path was not taken")

    assert Filter('headers.x == "y"', never).matches(record(headers=[("x", b"y")]), WHERE)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
EXPRESSIONS = [compile_filter(text) for text in ("value.a == 1", "value == 'x'", "value[0] > 1", "value.exists(x, x == 1)")]


@given(JSON.map(lambda one: json.dumps(one).encode()) | st.binary(max_size=20) | st.none(), st.sampled_from(EXPRESSIONS))
def test_no_payload_makes_a_filter_raise(value: bytes | None, asked: Filter) -> None:
    asked.verdict(record(value), WHERE)


@pytest.mark.parametrize(
    "value", [b"[" * 5_000 + b"]" * 5_000, b"[" * 900 + b"]" * 900, b'{"a":1e999}', b'{"a":"\\ud800"}']
)
def test_odd_json_is_looked_at_too(value: bytes) -> None:
    assert verdict("value == 'x' || true", record(value)) is MATCH


def test_only_what_the_expression_uses_is_decoded() -> None:
    seen: list[object] = []
    program = compile_program("offset > 1")

    def spy(variables: object) -> Verdict:
        seen.append(variables)
        return program({"offset": 7})

    assert Filter("offset > 1", spy).matches(record(b"{broken", b"k"), WHERE)
    assert seen == [{"offset": 7}]


def test_what_one_record_may_cost_is_bounded() -> None:
    text = b'{"s":"' + b"a" * MAX_VALUE_BYTES + b'"}'
    assert verdict("has(value.s)", record(text)) is ERROR
    assert verdict("offset == 7", record(text)) is MATCH
    heavy = compile_filter("value.l.exists(x, value.s.contains('ab'))")
    assert heavy.heavy
    assert heavy.verdict(record(b"a" * (MAX_HEAVY_BYTES + 1)), WHERE) is ERROR
    assert compile_filter("key.contains('a')" + " || key.contains('a')" * 8).heavy
    assert not compile_filter("value.kind == 'order' && key.contains('a')").heavy


FIELDS = [
    "value.a == 1",
    'value["a"] == 1 || value.b == "x"',
    "has(value.a) && value.b.c == 2",
    "value.a.value == 1",
    "value . a == value.b",
    "size(value) == 1",
    "value.exists(x, x == 'a')",
    "value[key] == 1",
    "value.a in [1] || 'value.b' == key",
    "value == {'a': 1}",
]
VALUES_OF_FIELDS = st.dictionaries(
    st.sampled_from(["a", "b", "c", "value"]),
    st.sampled_from([1, "x", None, 2**70, {"c": 2}, {"value": 1}, [1], "\0"]),
    max_size=4,
)


@given(st.sampled_from(FIELDS), VALUES_OF_FIELDS | st.sampled_from(["a", 1, None]), st.sampled_from([b"a", b"value.b"]))
def test_leaving_out_fields_that_are_not_looked_at_changes_no_verdict(text: str, value: object, key: bytes) -> None:
    one = record(json.dumps(value).encode(), key)
    asked, whole = compile_filter(text), compile_filter(f"({text}) || (key == 'never' && size(value) == 0)")
    assert whole._fields is None
    assert asked.verdict(one, WHERE) is whole.verdict(one, WHERE)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("value.a == 1", {"a"}),
        ('value["a b"] == value.c.d', {"a b", "c"}),
        ("value.items.exists(i, i.sku == 'x')", {"items"}),
        ("value.exists(i, i == 'x')", None),
        ("value.a == 1 && value == 2", None),
        ("value[key] == 1", None),
        ("value['a'] == 1", None),
        ("key == 'a'", None),
    ],
)
def test_the_fields_an_expression_looks_at_are_known(text: str, fields: set[str] | None) -> None:
    assert compile_filter(text)._fields == (None if fields is None else frozenset(fields))
