"""``logbroker demo replies``: many questions at the same time, responders that die, one answer each.

What lives here: the job and its verdict. What may not: HTTP, which is ``http_client``.
"""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from statistics import quantiles
from typing import Any

import click

from logbroker.cli import failures
from logbroker.cli.framework import Command, Invocation, pass_invocation
from logbroker.cli.http_client import HttpClient, path
from logbroker.cli.local_broker import local_broker
from logbroker.cli.output import note, print_item, progress
from logbroker.errors import LogbrokerError, NoResponders, RequestGone, RequestTimeout

_SERVICE = "demo-square"
_REQUESTERS = 32
_TIMEOUT_MS = 20_000
_LEASE_MS = 1_000
_DIES_ON = 97
"""A responder that gets a multiple of this, for the first time, dies with it: another one gets it a second later."""


@click.command(cls=Command)
@click.option("--requests", "count", type=click.IntRange(1, 1_000_000), default=1_000, show_default=True, help="Questions.")
@click.option("--responders", type=click.IntRange(1, 64), default=8, show_default=True, help="How many answer at a time.")
@pass_invocation
def replies(invocation: Invocation, /, count: int, responders: int) -> int:
    """Ask a service for many squares at once, let responders die now and then, and check every answer.

    Runs against the broker of --url, or, when none is given, against one of its own that leaves nothing behind.
    """
    with ExitStack() as stack:
        url = invocation.given_url or stack.enter_context(local_broker())
        service = _Service(url, invocation.timeout_s)
        pool = stack.enter_context(ThreadPoolExecutor(responders + _REQUESTERS))
        stack.callback(service.stop.set)  # also after Ctrl-C or an error: the pool waits for its threads
        with HttpClient(url, invocation.timeout_s) as client:
            without = _without_responders(client)
            client.request("POST", path("services", f"{_SERVICE}:serve"), body={})
            working = [pool.submit(service.respond) for _ in range(responders)]
            with progress(invocation, "asking", count) as bar:
                began = time.perf_counter()
                shares = [range(one, count, _REQUESTERS) for one in range(_REQUESTERS)]
                ended = threading.Event()
                asking = [pool.submit(_ask, url, share, ended, bar.advance) for share in shares]
                try:
                    took = [each for asked in asking for each in asked.result()]
                finally:
                    ended.set()
                    wait(asking)  # while there is still somebody who answers
                seconds = time.perf_counter() - began
            service.stop.set()
            for worker in working:
                worker.result()
            client.request("DELETE", path("queues", f"svc.{_SERVICE}"))
    return _verdict(invocation, count, took, seconds, {"no_responders_after_ms": without, "died": service.died})


class _Service:
    """The responders."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self.stop = threading.Event()
        self.died = 0
        self._url = url
        self._timeout_s = timeout_s
        self._seen: Counter[int] = Counter()

    def respond(self) -> None:
        """Answer until told to stop."""
        body = {"max": 4, "wait_ms": 200, "visibility_timeout_ms": _LEASE_MS}
        with HttpClient(self._url, self._timeout_s) as client:
            while not self.stop.is_set():
                for asked in client.request("POST", path("services", f"{_SERVICE}:serve"), body=body)["requests"]:
                    self._answer(client, asked)

    def _answer(self, client: HttpClient, asked: dict[str, Any]) -> None:
        number = int(asked["value"])
        self._seen[number] += 1
        if number % _DIES_ON == 0 and self._seen[number] == 1:
            self.died += 1
            return
        with suppress(RequestGone):  # answered by another one, or its time is over
            client.request("POST", path("replies", asked["token"]), body={"value": str(number * number)})


def _without_responders(client: HttpClient) -> float:
    began = time.perf_counter()
    try:
        client.request("POST", path("services", f"{_SERVICE}:request"), body={"value": "1"})
    except NoResponders:
        return round((time.perf_counter() - began) * 1_000, 2)
    raise LogbrokerError(f"somebody serves {_SERVICE!r} already: this demonstration needs a broker without")


def _ask(url: str, numbers: range, stop: threading.Event, advance: Any) -> list[tuple[float, bool]]:
    """For each number, how long its answer took and whether it was right."""
    took = []
    target, query = path("services", f"{_SERVICE}:request"), {"timeout_ms": _TIMEOUT_MS}
    with HttpClient(url, _TIMEOUT_MS / 1_000 + 10) as client:
        for number in numbers:
            if stop.is_set():
                break
            began = time.perf_counter()
            try:
                answer = client.request("POST", target, query, {"value": str(number)})["value"]
            except RequestTimeout:
                answer = None
            took.append((time.perf_counter() - began, answer == str(number * number)))
            advance(1)
    return took


def _verdict(
    invocation: Invocation, count: int, took: list[tuple[float, bool]], seconds: float, more: dict[str, object]
) -> int:
    right = sum(is_right for _, is_right in took)
    cuts = quantiles([each for each, _ in took], n=100) if len(took) > 1 else [took[0][0]] * 99
    summary = {"requests": count, "right_answers": right, **more, "requests_per_s": round(count / seconds)}
    summary |= {f"p{cut}_ms": round(cuts[cut - 1] * 1_000, 2) for cut in (50, 99)}
    print_item(invocation, summary)
    if right == count:
        return 0
    note(invocation, "some questions were not answered right in time")
    return failures.FAILURE
