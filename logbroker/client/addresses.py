"""The address of a broker, from a URL."""

from typing import NamedTuple
from urllib.parse import urlsplit

from logbroker.errors import InvalidRequest

JSON = "application/json"


class Address(NamedTuple):
    """Where a broker's HTTP door is."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """The URL without a path."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"


def parse_url(url: str) -> Address:
    """The address in ``http://host:port``; the scheme may be left out. Raises InvalidRequest."""
    try:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    else:
        if parts.scheme != "http":
            host = None
    if not host:
        raise InvalidRequest(f"{url!r} is no URL of a broker; one looks like http://127.0.0.1:8080")
    return Address(host, 80 if port is None else port)
