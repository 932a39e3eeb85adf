"""Which addresses we connect to when somebody else named them: a guard against being used to reach our own network.

Rules
1. Only addresses that the whole internet may reach pass: no loopback, private, link-local (169.254.169.254 is the cloud's
   metadata), shared, multicast, reserved or unspecified ones, and none that carry such an IPv4 address inside (mapped,
   6to4, NAT64, Teredo). `allow` lists the networks that are nevertheless wanted.
2. What is checked is the address that is dialed, after the look-up, and it is that very address that is dialed: a name
   that resolves otherwise the second time gains nothing. One forbidden address among a name's is left out; none left is refused.
3. Never a redirect: `net.ask` follows none.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from fairlead.core.errors import Refused

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
NAT64 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))
SITE = ipaddress.ip_network("fec0::/10")


def inside(address: Address) -> Address:
    """The IPv4 address that an IPv6 one carries, else itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    carried = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
    if carried is None and (any(address in net for net in NAT64) or int(address) >> 32 == 0):
        carried = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return carried or address


class Guard:
    """`allow`: networks that may be reached although they are not public."""

    def __init__(self, allow: Iterable[Network] = ()) -> None:
        self.allow = tuple(allow)

    def passes(self, address: str) -> bool:
        """Whether this address may be dialed."""
        found = ipaddress.ip_address(address.partition("%")[0])
        if any(found in net for net in self.allow if net.version == found.version):
            return True
        real = inside(found)
        if real is not found and any(real in net for net in self.allow if net.version == real.version):
            return True
        return bool(found.is_global and real.is_global and not real.is_multicast and not real.is_reserved) and not (
            isinstance(real, ipaddress.IPv6Address) and real in SITE
        )

    def pick(self, host: str, addresses: Iterable[str]) -> list[str]:
        """Those of a host's addresses that may be dialed. Refused when none may."""
        found = list(dict.fromkeys(addresses))
        good = [address for address in found if self.passes(address)]
        if found and not good:
            raise Refused(
                f"{host} is {', '.join(found[:3])}, which is not a public address",
                hint="allow its network in the configuration if it is meant",
                status=403,
            )
        return good
