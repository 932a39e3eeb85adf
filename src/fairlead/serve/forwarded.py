"""Who the client really is behind trusted proxies, and what we tell the next server about it.

In: `effective(headers, peer, trusted)`. Out: `outgoing(...)`, the `X-Forwarded-*` and `Forwarded` (RFC 7239) fields.

Rules
1. Only what a trusted peer sent is believed, and of a list only the part trusted hops wrote: it is read from the right,
   and the first address that is not trusted is the client. Everything left of it may be forged.
2. An untrusted peer's fields are dropped and written anew. A trusted peer's are kept and added to.
3. `X-Forwarded-*` wins over `Forwarded`: most proxies write only the former and pass the latter through unread, so a
   client behind them could forge it. A proxy that writes `Forwarded` alone has to remove `X-Forwarded-*`.
4. What does not parse is not believed: reading stops there. Nodes may be "unknown" or obfuscated ("_x"; RFC 7239, 6).
5. An IPv4 address mapped into IPv6 is IPv4. A peer on a unix socket has no address: it is trusted by the word "unix".
"""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network

SCHEMES = {b"http": "http", b"https": "https"}
HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%!$&'()*+,;=-]+)(?::\d{1,5})?\Z")
OBFUSCATED = re.compile(r"_[A-Za-z0-9._-]+\Z")
PAIR = re.compile(rb"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)=(?:([!#$%&'*+.^_`|~0-9A-Za-z-]+)|\"((?:[^\"\\]|\\.)*)\")\s*\Z")
NAMES = frozenset((b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"))
KEPT = 4096  # peers remembered with what we say about them


class Hop:
    """One peer: is it trusted, and the fields that tell the next server about it."""

    def __init__(self, host, trusted):
        self.trusted = trusted
        self.address = host.encode("latin-1", "replace")
        self.node = node(host)
        self.scheme = ""
        self.host = None
        self.said = []

    def fields(self, scheme, host):
        """The four fields for a request that came straight from this peer. The list is shared: do not change it."""
        if host == self.host and scheme == self.scheme:
            return self.said
        self.said = made(self, scheme, host)
        self.scheme = scheme
        self.host = host
        return self.said


class Trusted:
    """Networks whose peers are believed. `networks`: ipaddress networks or texts; "unix" for unix sockets."""

    def __init__(self, networks=()):
        self.unix_peers = False
        self.networks = []
        for network in networks:
            if network == "unix":
                self.unix_peers = True
            else:
                self.networks.append(ip_network(network) if isinstance(network, str) else network)
        self.hops = {}

    def hop(self, peer):
        """The Hop of a connection's peer: an address tuple, or a path (or nothing) for a unix socket."""
        host = peer[0] if type(peer) is tuple else ""
        found = self.hops.get(host)
        if found is None:
            if len(self.hops) >= KEPT:
                self.hops.clear()
            plain = plain_address(host)
            found = Hop(plain, self.unix_peers if not plain else self.includes(plain))
            self.hops[host] = found
        return found

    def includes(self, text):
        """True when an address, as text, is in one of the networks."""
        try:
            address = ip_address(text)
        except ValueError:
            return False
        return any([address in network for network in self.networks])


NOBODY = Trusted()


def plain_address(host):
    """An address as text without a zone, IPv4 out of IPv6; "" for none."""
    host = host.partition("%")[0]
    if host[:7].lower() == "::ffff:" and "." in host:
        return host[7:]
    return host


def effective(headers, peer, trusted):
    """(client, scheme, host) of a request: client a text (address, "unknown", "_x", "" for a unix peer), scheme "http",
    "https" or None, host bytes or None; None means that nobody we trust said otherwise than the connection."""
    hop = trusted.hop(peer)
    client = hop.address.decode("latin-1")
    if not hop.trusted:
        return client, None, None
    listed = joined(headers, b"x-forwarded-for")
    proto = joined(headers, b"x-forwarded-proto")
    host = joined(headers, b"x-forwarded-host")
    if listed is None and proto is None and host is None:
        value = joined(headers, b"forwarded")
        return (client, None, None) if value is None else by_forwarded(client, value, trusted)
    hops = 0
    for part in reversed(listed.split(b",")) if listed is not None else ():
        found = address_of(part.strip().decode("latin-1"))
        if found is None:
            break
        client = found
        hops += 1
        if not trusted.includes(client):
            break
    said = at_hop(host, hops)
    return client, SCHEMES.get(at_hop(proto, hops).lower()), said if said and HOST.match(said) else None


def by_forwarded(client, value, trusted):
    """The same by RFC 7239: each element was written by one hop about the one before it."""
    scheme = host = None
    elements = parse_forwarded(value)
    for element in reversed(elements):
        if element is None or "for" not in element:
            break
        found = address_of(element["for"])
        if found is None:
            break
        client = found
        scheme = SCHEMES.get(element.get("proto", "").lower().encode("latin-1"), scheme)
        said = element.get("host", "").encode("latin-1")
        host = said if said and HOST.match(said) else host
        if not trusted.includes(client):
            break
    return client, scheme, host


def joined(headers, name):
    """All values of a field as one list, or None when there is none."""
    found = [value for key, value in headers if key == name]
    return b",".join(found) if found else None


def at_hop(value, hops):
    """The entry of a list that the outermost trusted hop wrote; proxies that replace the field leave one entry."""
    if value is None:
        return b""
    parts = value.split(b",")
    at = len(parts) - max(hops, 1)
    return parts[at if at > 0 else 0].strip()


def address_of(text):
    """A node as an address (port dropped), "unknown", an obfuscated name, or None when it is none of these."""
    if text.lower() == "unknown" or OBFUSCATED.match(text):
        return text
    if text[:1] == "[":
        text, _, port = text[1:].partition("]")
        if port and not (port[0] == ":" and is_port(port[1:])):
            return None
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
        if not is_port(port):
            return None
    try:
        ip_address(text)
    except ValueError:
        return None
    return plain_address(text)


def is_port(text):
    """Digits, or an obfuscated port (RFC 7239 section 6.3)."""
    return (text.isascii() and text.isdigit() and len(text) <= 5) or OBFUSCATED.match(text) is not None


def parse_forwarded(value):
    """The elements of a Forwarded field as dicts, None for one that does not parse. Quoted commas do not split."""
    elements: list[dict[str, str] | None] = []
    for part in split_quoted(value, b","):
        if not part.strip():
            continue
        element: dict[str, str] | None = {}
        for pair in split_quoted(part, b";"):
            found = PAIR.match(pair)
            name = found[1].lower().decode("latin-1") if found else ""
            if not found or element is None or name in element:
                element = None
                break
            text = found[2] if found[2] is not None else re.sub(rb"\\(.)", rb"\1", found[3])
            element[name] = text.decode("latin-1")
        elements.append(element)
    return elements


def split_quoted(value, mark):
    """Split at a byte that stands outside of quoted strings."""
    parts = []
    start = 0
    quoted = escaped = False
    for i in range(len(value)):
        c = value[i : i + 1]
        if escaped:
            escaped = False
        elif quoted and c == b"\\":
            escaped = True
        elif c == b'"':
            quoted = not quoted
        elif c == mark and not quoted:
            parts.append(value[start:i])
            start = i + 1
    parts.append(value[start:])
    return parts


# ---- out


def node(host):
    """A peer as a Forwarded node: IPv6 in brackets and quotes, no address is "unknown" (RFC 7239 section 6)."""
    if not host:
        return b"unknown"
    return b'"[%b]"' % host.encode() if ":" in host else host.encode()


def element(hop, scheme, host):
    """Our own Forwarded element about the peer."""
    text = b"for=" + hop.node
    if host and HOST.match(host):
        text += b';host="' + host + b'"' if b":" in host or b"[" in host else b";host=" + host
    return text + b";proto=" + scheme.encode()


def made(hop, scheme, host):
    """The fields about a peer that nothing was said about before."""
    fields = [(b"x-forwarded-proto", scheme.encode()), (b"forwarded", element(hop, scheme, host))]
    if hop.address:
        fields.append((b"x-forwarded-for", hop.address))
    if host:
        fields.append((b"x-forwarded-host", host))
    return fields


def added(hop, scheme, host, headers):
    """The fields when a trusted peer sent some: kept, with our peer added (`headers` holds what came)."""
    listed = joined(headers, b"x-forwarded-for")
    value = joined(headers, b"forwarded")
    proto = joined(headers, b"x-forwarded-proto") or scheme.encode()
    named = joined(headers, b"x-forwarded-host") or host
    if value is None and listed is not None:
        value = b", ".join([b"for=" + node_of(part) for part in listed.split(b",")])
    ours = element(hop, scheme, host)
    fields = [(b"x-forwarded-proto", proto), (b"forwarded", value + b", " + ours if value else ours)]
    if hop.address:
        fields.append((b"x-forwarded-for", listed + b", " + hop.address if listed else hop.address))
    elif listed:
        fields.append((b"x-forwarded-for", listed))
    if named:
        fields.append((b"x-forwarded-host", named))
    return fields


def node_of(part):
    """An X-Forwarded-For entry as a Forwarded node (RFC 7239 section 7.4)."""
    found = address_of(part.strip().decode("latin-1"))
    if found is None:
        return b"unknown"
    return found.encode() if found == "unknown" or found[:1] == "_" else node(found)
