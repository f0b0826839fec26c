"""Where a platform may not stand in production: on loopback, and on private addresses unless that is allowed.

Looks at what the address says. A name that only resolves to such an address passes here.
"""

import ipaddress
import socket
from typing import Literal
from urllib.parse import urlsplit

Nearness = Literal["loopback", "private"]


def is_loopback(host: str) -> bool:
    return nearness(host) == "loopback"


def nearness(host: str) -> Nearness | None:
    """`127.1` and `::ffff:127.0.0.1` are loopback too: that is where a client would go."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return "loopback"
    address = _address(name)
    if address is None:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_loopback or address.is_unspecified:
        return "loopback"
    return None if address.is_global else "private"


def nearness_of_url(url: str) -> Nearness | None:
    return nearness(urlsplit(url).hostname or "")


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(name))
    except (OSError, ValueError, UnicodeError):
        return None
