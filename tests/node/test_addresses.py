"""Where doors may listen."""

import pytest

from logbroker.errors import InvalidConfig
from logbroker.node import Address, parse_address, refuse_public


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("localhost:0", Address("localhost", 0)),
        ("[::1]:65535", Address("::1", 65535)),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, address: Address) -> None:
    assert parse_address("http", text) == address
    assert str(address) == text


@pytest.mark.parametrize("text", ["", "8080", ":8080", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:65536", "127.0.0.1:-1"])
def test_anything_else_is_refused_with_the_name_of_the_setting(text: str) -> None:
    with pytest.raises(InvalidConfig, match=r"^http = .*must be HOST:PORT"):
        parse_address("http", text)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_is_private(host: str) -> None:
    refuse_public("http", Address(host, 1))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "192.0.2.1", "example.org", "localhost.example.org"])
def test_what_others_reach_is_refused(host: str) -> None:
    with pytest.raises(InvalidConfig, match="there is no authentication"):
        refuse_public("http", Address(host, 1))
