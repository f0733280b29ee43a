"""A key and headers as one expression."""

from hypothesis import given
from hypothesis import strategies as st

from logbroker.filters import compile_filter
from logbroker.filters.shorthand import combined
from logbroker.model import Header, StoredRecord, TopicPartition

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(TEXT, TEXT, TEXT, st.booleans())
def test_it_matches_exactly_that_key_and_that_header(key: str, name: str, value: str, same: bool) -> None:
    text = combined("offset == 1 || offset == 2", key, [(name, value)])
    assert text is not None
    asked = compile_filter(text)
    headers = (Header(name, (value if same else value + "x").encode()),)
    assert asked.matches(StoredRecord(1, 0, key.encode(), None, headers), TopicPartition("t", 0)) is same
    assert not asked.matches(StoredRecord(1, 0, key.encode() + b"x", None, headers), TopicPartition("t", 0))
    assert not asked.matches(StoredRecord(3, 0, key.encode(), None, headers), TopicPartition("t", 0))


def test_nothing_wanted_is_no_filter() -> None:
    assert combined(None, None, []) is None
