"""Reads what ``kafka.tools.DumpLogSegments`` prints. A line of a kind that is not known here is a complaint of the tool."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tools.bench.servers.kafka import run_tool

_MAIN_CLASS = "kafka.tools.DumpLogSegments"
_BATCH = re.compile(r"baseOffset: (?P<base>\d+) lastOffset: .* position: (?P<position>\d+) .* isvalid: (?P<valid>\w+)")
_RECORD = re.compile(
    r"\| offset: (?P<offset>\d+) (?P<kind>CreateTime|LogAppendTime): (?P<timestamp>\d+) keySize: (?P<key_size>-?\d+)"
    r" valueSize: (?P<value_size>-?\d+) .*?headerKeys: \[(?P<headers>[^\]]*)\]"
    r"(?: key: (?P<key>.*?))?(?: payload: (?P<value>.*))?"
)
_FIELD = re.compile(r"(\w+): (\S+)")
_FINE = re.compile(r"Dumping \S+|Log starting offset: \d+|\S+ passed sanity check\.|")


@dataclass
class Dump:
    """What the tool saw."""

    batches: list[Mapping[str, str]] = field(default_factory=list)
    """The fields of each batch, named as the tool names them."""
    records: list[Mapping[str, str | None]] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


def dump(files: Sequence[Path], *options: str) -> Dump:
    """Run the tool on ``files``."""
    seen = Dump()
    told = run_tool(_MAIN_CLASS, *options, "--files", ",".join(map(str, files)))
    for line in told.splitlines():
        record, batch = _RECORD.fullmatch(line), _BATCH.match(line)
        if record is not None:
            seen.records.append(record.groupdict())
        elif batch is not None:
            seen.batches.append(dict(_FIELD.findall(line)))
            if batch["valid"] != "true":
                seen.complaints.append(line)
        elif not _FINE.fullmatch(line):
            seen.complaints.append(line)
    return seen
