"""What tests of users' code need: a broker in the test's own process, a clock to move, faults to switch on.

The pytest plugin (``plugin``) makes fixtures of it. Importing this package imports neither the broker nor aiohttp.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from logbroker.clock import ManualClock as ManualClock
    from logbroker.testing.broker import LocalBroker as LocalBroker
    from logbroker.testing.checks import assert_sent as assert_sent
    from logbroker.testing.checks import drain as drain

_WHERE = {
    "ManualClock": "logbroker.clock",
    "LocalBroker": "logbroker.testing.broker",
    "assert_sent": "logbroker.testing.checks",
    "drain": "logbroker.testing.checks",
}
__all__ = ["LocalBroker", "ManualClock", "assert_sent", "drain"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_WHERE[name]), name)
