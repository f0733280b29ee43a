"""Fixtures of the command-line tests: one broker process for all, and a way to run commands against it."""

import io
import json
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from logbroker.cli.local_broker import local_broker
from logbroker.cli.main import run


class Ran(NamedTuple):
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def rows(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


class CommandLine:
    """Runs commands in this process against one broker; ``stdin`` is what they read."""

    def __init__(self, url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.url = url
        self._capsys = capsys
        self._monkeypatch = monkeypatch

    def __call__(self, *arguments: str, stdin: bytes = b"") -> Ran:
        self._monkeypatch.setenv("LOGBROKER_URL", self.url)
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = run(list(arguments))
        shown = self._capsys.readouterr()
        return Ran(code, shown.out, shown.err)


@pytest.fixture(scope="module")
def broker_url() -> Iterator[str]:
    """A broker process of this module's own."""
    with local_broker() as url:
        yield url


@pytest.fixture
def logbroker(broker_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """``logbroker("topic", "ls")`` runs a command against the broker."""
    return CommandLine(broker_url, capsys, monkeypatch)
