"""Which Host and Origin headers are served."""

import pytest

from logbroker.http_api.hosts import AllowedHosts, host_name
from tests.http_api.conftest import Door


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "localhost@evil.example"},
        {"Host": ""},
        {"Host": "10.0.0.1:8080"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "file://127.0.0.1"},
    ],
)
async def test_a_foreign_host_or_origin_gets_403_whatever_it_asks(door: Door, headers: dict[str, str]) -> None:
    for method, path in (("GET", "/livez"), ("GET", "/nix"), ("PUT", "/v1/topics/orders")):
        assert (await door(method, path, headers=headers)).failure == (403, "HOST_FORBIDDEN")
    assert (await door("GET", "/v1/topics")).json["items"] == []


@pytest.mark.asyncio
async def test_the_brokers_own_pages_may_call_it(door: Door) -> None:
    authority = door.url.removeprefix("http://")
    assert (await door("GET", "/livez", headers={"Origin": door.url})).status == 200
    port = authority.rpartition(":")[2]
    for host in (f"localhost:{port}", f"LOCALHOST:{port}", f"[::1]:{port}", "localhost", "127.0.0.1:1"):
        assert (await door("GET", "/livez", headers={"Host": host})).status == 200, host


def test_named_hosts_are_served_and_their_pages_trusted() -> None:
    hosts = AllowedHosts("127.0.0.1", ("Broker.example:443",))
    assert hosts.serves("broker.example:8080")
    assert hosts.serves("broker.example.")
    assert hosts.trusts("https://broker.example", "127.0.0.1:8080")
    assert not hosts.serves("other.example")
    assert not hosts.trusts("https://other.example", "127.0.0.1:8080")


def test_bound_to_every_address_only_numbers_and_named_hosts_are_served() -> None:
    hosts = AllowedHosts("0.0.0.0", ("broker.example",))
    assert hosts.serves("192.168.1.5:8080")
    assert hosts.serves("[2001:db8::1]:8080")
    assert hosts.serves("broker.example")
    assert not hosts.serves("rebound.example:8080")


def test_bound_to_one_address_that_address_is_served() -> None:
    assert AllowedHosts("192.168.1.5", ()).serves("192.168.1.5:80")
    assert not AllowedHosts("192.168.1.5", ()).serves("192.168.1.6:80")


@pytest.mark.parametrize(
    ("authority", "name"),
    [("A.b:1", "a.b"), ("[::1]:80", "::1"), ("[::1", ""), ("", ""), (":80", ""), ("a.b.", "a.b"), ("u:p@h", "h")],
)
def test_the_name_is_cut_from_the_authority(authority: str, name: str) -> None:
    assert host_name(authority) == name
