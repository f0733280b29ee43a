"""Filters: which records a reader wants, as a CEL expression that is compiled once. Pure."""

from logbroker.filters.cel import Verdict as Verdict
from logbroker.filters.filter import MAX_FILTER_BYTES as MAX_FILTER_BYTES
from logbroker.filters.filter import DeadLetterFacts as DeadLetterFacts
from logbroker.filters.filter import Filter as Filter
from logbroker.filters.filter import compile_filter as compile_filter
