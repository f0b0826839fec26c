"""Near addresses: where a platform may not stand in production, and where a gateway may listen without a key.

Looks at what the address says. A name that only resolves to such an address passes here.
"""

import ipaddress
import socket
from typing import Literal
from urllib.parse import urlsplit

Nearness = Literal["loopback", "private"]


def listens_on_loopback(host: str) -> bool:
    """Whether only this machine reaches who listens there. Not `0.0.0.0`: that is every address it has."""
    address = _address(host)
    return host.lower() == "localhost" if address is None else address.is_loopback


def nearness(host: str) -> Nearness | None:
    """Where a client would end up: `127.1`, `::ffff:127.0.0.1` and `0.0.0.0` are loopback too."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return "loopback"
    address = _address(name)
    if address is None:
        return None
    if address.is_loopback or address.is_unspecified:
        return "loopback"
    return None if address.is_global else "private"


def nearness_of_url(url: str) -> Nearness | None:
    return nearness(urlsplit(url).hostname or "")


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        try:
            return ipaddress.IPv4Address(socket.inet_aton(name))
        except (OSError, ValueError):
            return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
