"""``lb.service(name)``: answering requests. Asking is ``lb.request``."""

from collections.abc import Callable

from logbroker.client.aio.driver import Driver
from logbroker.client.aio.responder import Responder
from logbroker.client.aio.slots import Given, Returned, SlotOptions
from logbroker.client.durations import Duration


class AsyncService:
    """One service. Making it asks the broker nothing."""

    def __init__(self, driver: Driver, name: str, consumer: str) -> None:
        self._driver = driver
        self._consumer = consumer
        self.name = name

    def handler(
        self, *, concurrency: int = 1, timeout: Duration | None = None, drain: Duration = "30s"
    ) -> "Callable[[Callable[Given, Returned]], Responder[Given, Returned]]":
        """Make a function answer the service: ``@lb.service("pricing").handler()``. It runs with the client's ``run``.

        It takes a request, decoded as its annotation says, and perhaps the whole ``Asked``; what it returns is the answer,
        and an exception is told to the requester (RemoteError). Raises InvalidRequest for a function that cannot be one.
        """
        slots = SlotOptions.of(concurrency, timeout, drain)

        def made(handler: Callable[Given, Returned]) -> Responder[Given, Returned]:
            return self._driver.working(Responder(self._driver, self.name, handler, slots, self._consumer))

        return made
