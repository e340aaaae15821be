"""Where a tenant's webhook may lead: public addresses only, looked at when connecting, after the name is resolved.

A name that resolved well when it was entered may lead inside by now (DNS rebinding), and one good address among several
does not make the others good. So each address is vetted, and exactly those that were vetted are connected to.

What is public is read from IANA's special-purpose registries here, rather than from `ipaddress.is_private`, which has
said other things in other versions of Python and knows nothing of what is embedded in an address.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_REFUSED: dict[str, str] = {
    "0.0.0.0/8": "this host",
    "10.0.0.0/8": "private",
    "100.64.0.0/10": "carrier-grade NAT, and a cloud's metadata",
    "127.0.0.0/8": "loopback",
    "168.63.129.16/32": "a cloud's metadata",
    "169.254.0.0/16": "link-local, and most clouds' metadata",
    "172.16.0.0/12": "private",
    "192.0.0.0/24": "protocol assignments, and a cloud's metadata",
    "192.0.2.0/24": "documentation",
    "192.31.196.0/24": "AS112",
    "192.52.193.0/24": "automatic multicast tunnels",
    "192.88.99.0/24": "6to4 relays",
    "192.168.0.0/16": "private",
    "192.175.48.0/24": "AS112",
    "198.18.0.0/15": "benchmarks",
    "198.51.100.0/24": "documentation",
    "203.0.113.0/24": "documentation",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved, and broadcast",
    "2001::/23": "protocol assignments, Teredo among them",
    "2001:db8::/32": "documentation",
    "2002::/16": "6to4",
    "2620:4f:8000::/48": "AS112",
    "3fff::/20": "documentation",
}
_NETWORKS: tuple[tuple[Network, str], ...] = tuple((ipaddress.ip_network(net), why) for net, why in _REFUSED.items())
# All of IPv6 that is given out. Outside are loopback, mapped and embedded IPv4, NAT64, unique local, link-local,
# multicast and what is reserved.
_GLOBAL_V6 = ipaddress.ip_network("2000::/3")


class NotPublic(Exception):
    """The host's name leads to an address that a tenant's webhook must not reach."""


def objection(address: str) -> str:
    """Why this address is refused; "" if it is public."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "not an address"
    if parsed.version == 6 and parsed not in _GLOBAL_V6:
        return "not of IPv6's public space"
    return next((why for network, why in _NETWORKS if parsed in network), "")


def vetted(addresses: Sequence[str]) -> Sequence[str]:
    """The addresses, if every one of them is public. Raises NotPublic."""
    if any(objection(address) for address in addresses):
        raise NotPublic
    return addresses


async def resolve(host: str, port: int) -> list[str]:
    """The host's addresses as DNS has them now. Raises OSError if it has none."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
