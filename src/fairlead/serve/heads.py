"""What a reverse proxy changes in heads: the request's going out, the answer's coming back. RFC 9110 section 7.6.

Rules
1. Fields of the connection (section 7.6.1) stay on theirs, also those that `Connection` names; but nobody can name away
   Host and Content-Length, nor what we write ourselves.
2. `Via` is added to, with the version that the message came by (section 7.6.3). `Forwarded` and `X-Forwarded-*` are ours to
   write, see `serve/forwarded`.
3. The path goes on in the normal form that routing saw, the query as it came.
   `TE: trailers` is said anew on the leg's connection, because trailers pass both ways; another TE is for us only.
4. Framing is not decided here: the codecs do that from the message's length.
5. A head that came as a block (`core/message`) and needs nothing unusual goes on as a block: what is dropped is a set of
   bits, and what is added was written once for the connection (`Said`). Anything else takes the list. Both say the same.
   Names leave in lower case, whichever way, because HTTP/2 knows no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import urandom

from fairlead.core.errors import Refused
from fairlead.core.handler import Handler
from fairlead.core.message import NUMBERS, ODD, Request, Response, bits_of
from fairlead.serve.forwarded import NOBODY, added
from fairlead.wire.h1bytes import LOW, VALUE

try:
    from fairlead.wire import _fast
except ImportError:  # no compiler at install
    from fairlead.wire import _plain as _fast  # type: ignore[no-redef]

# what happens to a request's field; anything else is copied
DROP, CONNECTION, CHAIN, VIA, ID, FORWARDS, EXPECT, TRAILERS = range(1, 9)
REQUEST_FIELDS = {
    b"host": DROP, b"connection": CONNECTION, b"te": TRAILERS, b"via": VIA, b"max-forwards": FORWARDS, b"expect": EXPECT,
    b"keep-alive": DROP, b"proxy-connection": DROP, b"transfer-encoding": DROP, b"upgrade": DROP,
    b"http2-settings": DROP,
    b"forwarded": CHAIN, b"x-forwarded-for": CHAIN, b"x-forwarded-proto": CHAIN, b"x-forwarded-host": CHAIN,
}  # fmt: skip
RESPONSE_FIELDS = {
    b"connection": CONNECTION, b"via": VIA, b"keep-alive": DROP, b"proxy-connection": DROP, b"transfer-encoding": DROP,
    b"upgrade": DROP, b"te": DROP,
}  # fmt: skip
# the same as bits: what a block cannot do (the list can), and what is left out of one
CHAINED = bits_of(b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host")
LISTED = ODD | bits_of(b"via", b"expect", b"max-forwards", b"te", b"upgrade")
DROPPED = CHAINED | bits_of(
    b"host", b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"http2-settings"
)  # fmt: skip
ANSWER_LISTED = ODD | bits_of(b"via", b"upgrade")
ANSWER_DROPPED = bits_of(b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"te")
_CHAINED, _LISTED, _ANSWER_LISTED, _ANSWER_DROPPED = CHAINED, LISTED, ANSWER_LISTED, ANSWER_DROPPED
KEPT = frozenset((b"host", b"content-length"))  # `Connection` may name these, and is not obeyed
DIGITS = tuple([b"%02x" % i for i in range(256)])


@dataclass(slots=True)
class Options:
    """How one proxy route rewrites. Fields are (lower-case name, value) lists."""

    host: str = "preserve"  # or "upstream", or a host
    strip: str = ""
    via: str = "fairlead"
    request_id: str = "x-request-id"
    retries: int = 1
    retry_budget: float = 0.2
    half_close: int = 0  # ns a client that closed its side is waited for; 0 is as long as the upstream may take
    set_request: tuple = ()
    add_request: tuple = ()
    remove_request: tuple = ()
    set_response: tuple = ()
    add_response: tuple = ()
    remove_response: tuple = ()


class Said:
    """What one connection's requests are given on their way: kept on it (`conn.target`), made anew when something differs."""

    def __init__(self, heads, source, scheme, host, server):
        self.heads = heads
        self.source = source
        self.scheme = scheme
        self.host = host
        self.server = server
        self.version = ""
        self.trusted = False
        self.authority = host
        self.before = b""
        self.after = b""


class Heads(Handler):
    """The part of a Proxy that rewrites heads."""

    def __init__(self, upstream, options=None):
        options = options if options is not None else Options()
        self.upstream = upstream
        self.options = options
        self.host = b"" if options.host in ("preserve", "upstream") else options.host.encode()
        self.host_of_target = options.host == "upstream"
        self.strip = options.strip.rstrip("/").encode()
        self.via = options.via.encode()
        self.vias = {version: (b"via", version.encode() + b" " + self.via) for version in ("1.0", "1.1", "2", "3")}
        self.id_name = options.request_id.lower().encode()
        self.id_stem = urandom(8).hex().encode()
        self.id_head = b""
        self.id_count = 0
        self.fields = dict(REQUEST_FIELDS)
        if self.id_name:
            self.fields[self.id_name] = ID
        self.rewrites_request = bool(options.set_request or options.add_request or options.remove_request)
        self.rewrites_response = bool(options.set_response or options.add_response or options.remove_response)
        self.listing = self.rewrites_request or (bool(self.id_name) and self.id_name not in NUMBERS)
        self.drop = DROPPED | (1 << NUMBERS[self.id_name] if self.id_name in NUMBERS else 0)
        self.id_bit = self.drop & ~DROPPED
        self.via_lines = {version: b"via: %b\r\n" % field[1] for version, field in self.vias.items()}

    # ---- the request's head

    def outgoing(self, exchange, target):
        """The Request to say on the leg."""
        given = exchange.request
        block = given.block
        if block is None or self.listing or block.known & _LISTED:
            return self.outgoing_list(exchange, target)
        conn = exchange.conn
        said = conn.target
        if said is None or not self.fits(said, conn, given, target):
            said = self.say(conn, given, target)
            if said is None:
                return self.outgoing_list(exchange, target)
        if said.trusted and (block.known & _CHAINED or (block.known & self.id_bit and not exchange.tag)):
            return self.outgoing_list(exchange, target)
        request = Request.__new__(Request)
        request.begin(given.method, self.upstream.scheme, said.authority, self.path(given), None, "1.1", given.length)
        request.block = block
        request.drop = self.drop
        request.before = said.before
        request.after = said.after
        if self.id_name:
            request.tail = exchange.tag or self.identify(exchange, None)
        return request

    def fits(self, said, conn, given, target):
        """Whether what was said on this connection before is what is to be said now."""
        return (
            said.heads is self
            and said.host == given.authority
            and said.scheme == given.scheme
            and said.version == given.version
            and said.source is conn.service.forwarded
            and (said.server is target or not self.host_of_target)
        )

    def say(self, conn, given, target):
        """Write the lines for a connection's requests, and keep them on it. None when they cannot be written."""
        source = conn.service.forwarded
        hop = (source if source is not None else NOBODY).hop(conn.peer)
        said = Said(self, source, given.scheme, given.authority, target)
        said.version = given.version
        said.trusted = hop.trusted
        said.authority = self.host_for(given.authority, target)
        before = _fast.fields_joined([(b"host", said.authority)], LOW, VALUE)
        after = _fast.fields_joined([self.vias[given.version], *hop.fields(given.scheme, given.authority)], LOW, VALUE)
        if before is None or after is None:
            return None
        said.before = before
        said.after = after + self.id_name + b": " if self.id_name else after
        conn.target = said
        return said

    def host_for(self, host, target):
        """The Host to ask for."""
        if self.host:
            return self.host
        if self.host_of_target:
            return target.name.encode() if type(target.address) is tuple else b"localhost"
        return host

    def outgoing_list(self, exchange, target):
        """The same by the list of fields."""
        given = exchange.request
        fields = self.fields
        conn = exchange.conn
        trusted = conn.service.forwarded
        if trusted is None:
            trusted = NOBODY
        hop = trusted.hop(conn.peer)
        host = given.authority
        headers = [(b"host", host)]
        chained = ident = named = trailers = None
        via = mine = self.vias[given.version]
        for field in given.listed():
            kind = fields.get(field[0])
            if kind is None:
                headers.append(field)
            elif kind == CONNECTION:
                if field[1] != b"keep-alive" and field[1] != b"close":
                    named = options_of(field[1], named)
            elif kind == CHAIN:
                if hop.trusted:
                    chained = with_one(chained, field)
            elif kind == ID:
                if hop.trusted and ident is None:
                    ident = field[1]
            elif kind == VIA:
                via = (b"via", (via[1] if via is not mine else b"") + field[1] + b", ")
            elif kind == EXPECT:
                if given.expect:
                    headers.append(field)
            elif kind == FORWARDS:
                headers.append(fewer(given.method, field))
            elif kind == TRAILERS and takes_trailers(field[1]):
                trailers = field
        if named is not None:
            headers = without(headers, named)
        if trailers is not None:
            headers.append((b"te", b"trailers"))
            headers.append((b"connection", b"te"))
        headers.append(mine if via is mine else (b"via", via[1] + mine[1]))
        headers.extend(hop.fields(given.scheme, host) if chained is None else added(hop, given.scheme, host, chained))
        if self.id_name:
            headers.append((self.id_name, self.identify(exchange, ident)))
        headers[0] = (b"host", self.host_for(host, target))
        if self.rewrites_request:
            options = self.options
            headers = rewritten(headers, options.set_request, options.add_request, options.remove_request)
        request = Request.__new__(Request)
        request.begin(
            given.method, self.upstream.scheme, headers[0][1], self.path(given), headers, "1.1", given.length
        )
        request.expect = given.expect
        return request

    def path(self, given):
        """The request-target to ask for: the normalised path, less what is stripped, and the query as it came."""
        target = given.target
        raw = given.raw_path
        if raw is target and not self.strip:
            return target
        if raw and not (target.startswith(raw) and (len(target) == len(raw) or target[len(raw)] == 63)):
            at = target.find(b"?")
            target = raw + target[at:] if at >= 0 else raw
        strip = self.strip
        if strip and target.startswith(strip):
            rest = target[len(strip) :]
            if not rest or rest[:1] == b"?":
                target = b"/" + rest
            elif rest[:1] == b"/":
                target = rest
        return target

    def identify(self, exchange, given):
        """The request's id: what it has already, what a trusted peer gave, or a new one."""
        if not exchange.tag:
            if given is not None and len(given) <= 128:
                exchange.tag = given
            else:
                low = self.id_count & 255
                if low == 0:
                    self.id_head = self.id_stem + b"%06x" % (self.id_count >> 8)
                self.id_count += 1
                exchange.tag = self.id_head + DIGITS[low]
        return exchange.tag

    # ---- the answer's head

    def returning(self, response):
        """Make the upstream's head ours: its connection's fields out, `Via` in."""
        block = response.block
        if block is not None and not self.rewrites_response and not block.known & _ANSWER_LISTED:
            response.drop = _ANSWER_DROPPED
            response.after = self.via_lines[response.version]
            return
        fields = RESPONSE_FIELDS
        headers = []
        named = None
        via = self.vias[response.version]
        for field in response.listed():
            kind = fields.get(field[0])
            if kind is None:
                headers.append(field)
            elif kind == CONNECTION:
                if field[1] != b"keep-alive" and field[1] != b"close":
                    named = options_of(field[1], named)
            elif kind == VIA:
                via = (b"via", field[1] + b", " + via[1])
        if named is not None:
            headers = without(headers, named)
        headers.append(via)
        if self.rewrites_response:
            options = self.options
            headers = rewritten(headers, options.set_response, options.add_response, options.remove_response)
        response.headers = headers


# ---- fields


def options_of(value, named):
    """The options of a Connection field, as the set of field names to leave out."""
    found = set() if named is None else named
    for option in value.lower().split(b","):
        option = option.strip()
        if option and option not in KEPT:
            found.add(option)
    return found


def takes_trailers(value):
    """Whether TE says that trailers are welcome; nothing else of it is anybody's but ours (RFC 9110 section 10.1.4)."""
    return b"trailers" in [part.strip(b" \t") for part in value.lower().split(b",")]


def without(headers, named):
    """The fields that Connection does not name."""
    return [field for field in headers if field[0] not in named]


def with_one(fields, field):
    """A list with one more."""
    if fields is None:
        return [field]
    fields.append(field)
    return fields


def fewer(method, field):
    """Max-Forwards, one less, for the methods that have it (RFC 9110 section 7.6.2)."""
    if method in ("OPTIONS", "TRACE") and field[1].isdigit() and len(field[1]) < 10:
        return (field[0], b"%d" % (int(field[1]) - 1))
    return field


def last_stop(exchange):
    """Answer here what must not go on: CONNECT, and what Max-Forwards says nobody behind us may see."""
    if exchange.request.method == "CONNECT" and not exchange.request.protocol:
        raise Refused("a reverse proxy opens no tunnels", status=405, hint="CONNECT is for forward proxies")
    value = exchange.request.get(b"max-forwards")
    if value is None or not value.isdigit() or int(value[:10]) != 0:
        return False
    if exchange.request.method == "TRACE":
        raise Refused("TRACE is not answered here", status=405)
    exchange.whole(
        Response(200, [(b"allow", b"GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH"), (b"content-length", b"0")], 0), b""
    )
    return True


def rewritten(headers, replace, add, remove):
    """Fields set (the old ones out), added, and removed."""
    gone = set(remove) | {name for name, _ in replace}
    kept = [field for field in headers if field[0] not in gone]
    kept.extend(replace)
    kept.extend(add)
    return kept
