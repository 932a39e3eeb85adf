"""The table: which route answers a request. Compiled once per configuration, asked on every request.

Rules
- Routes are tried in file order and the first that matches answers. A route matches when its listener, host, path,
  headers and method all do; a condition that is not written is no condition.
- A path is ``/a`` (exact), ``/a/*`` (prefix: also ``/a``), ``/a/{x}`` (``{x}`` is one segment, not empty), or nothing
  (everything).
- The first route whose path fits but whose methods do not *chooses the path*: after it only routes with the same or a
  narrower path can answer; when none does it is 405 with the methods of all that were passed over. So a catch-all at
  the end of the file does not swallow a ``POST`` to a ``GET``-only route. ``GET`` includes ``HEAD``.
- Paths are compared in their normal form (RFC 3986 section 6.2.2): escapes of unreserved characters decoded, other
  escapes in upper case, dot segments removed after decoding, so ``%2e%2e`` hides nothing. ``%2F`` stays one character
  of a segment and ``//`` stays as it is. The normal form is what a proxy sends on, so both sides of us see one path.
- Hosts are compared without port, in lower case, without a dot at the end; ``*.example`` is any name below
  ``example``.

A route is any object with ``listeners``, ``host``, ``path``, ``methods`` (tuples and text) and ``headers`` (name to
value, ``*`` any).
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote, unquote_to_bytes

from fairlead.core.errors import WireError

ANY, EXACT, PREFIX, PATTERN = 0, 1, 2, 3
FEW = 3  # up to here a walk over all entries is cheaper than cutting out the first segment
UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
ESCAPE = re.compile(rb"%(?:([0-9A-Fa-f]{2})|)|[^!-~]|[#?]")


class BadPath(WireError):
    """A path that cannot be normalised: a broken escape, a NUL, a control character; answered 400."""


class Match:
    """What the table found: a ``route`` and its path ``params`` (decoded), or no route and the ``allow`` of a 405.

    ``allow`` is ``None`` when ``route`` is set, otherwise a tuple of methods. ``index`` is the place in the file.
    """

    def __init__(self, route, index, params, allow=None):
        self.route = route
        self.index = index
        self.params = params
        self.allow = allow

    def __repr__(self):
        return (
            f"<Match route {self.index} {self.params}>" if self.allow is None else f"<Match none, allow {self.allow}>"
        )


class Entry:
    """One compiled route."""

    def __init__(self, route, index):
        self.route = route
        self.index = index
        self.names, self.segments, self.open = parse_path(route.path)
        self.text = "/" + "/".join([segment or "" for segment in self.segments])
        self.slash = self.text + "/"
        self.kind = self.kind_of()
        if self.kind == PATTERN:  # the fixed beginning: most paths are told apart by it
            fixed = self.segments[: self.segments.index(None)]
            self.slash = "/" + "".join([segment + "/" for segment in fixed])
        self.hosts = tuple([plain_host(host) for host in route.host]) or None
        if self.hosts is not None and "*" in self.hosts:
            self.hosts = None
        self.methods = with_head(route.methods) if route.methods else None
        self.headers = [
            (name.lower().encode(), None if value == "*" else value.encode()) for name, value in route.headers.items()
        ]
        self.match = Match(route, index, {})

    def kind_of(self):
        if None in self.segments:
            return PATTERN
        if not self.open:
            return EXACT
        return PREFIX if self.segments else ANY

    def fits_path(self, path):
        """Does this normalised path match?"""
        if self.kind == ANY:
            return True
        if self.kind == EXACT:
            return path == self.text
        if self.kind == PREFIX:
            return path.startswith(self.slash) or path == self.text
        return path.startswith(self.slash) and self.fits_pattern(path[1:].split("/"))

    def fits_pattern(self, parts):
        count = len(self.segments)
        if len(parts) < count or (len(parts) > count and not self.open):
            return False
        for i in range(count):
            want = self.segments[i]
            if parts[i] != want if want is not None else not parts[i]:
                return False
        return True

    def fits_host(self, host):
        """Does this plain host (see `plain_host`) match?"""
        for want in self.hosts or ():
            if host == want or (want.startswith("*.") and host.endswith(want[1:]) and len(host) >= len(want)):
                return True
        return False

    def fits_headers(self, headers):
        for name, value in self.headers:
            for key, given in headers:
                if key == name and (value is None or given == value):
                    break
            else:
                return False
        return True

    def found(self, path):
        """The match, with path parameters filled in when there are any."""
        if self.kind != PATTERN:
            return self.match
        parts = path[1:].split("/")
        params = {}
        for i in range(len(self.names)):
            if self.names[i] is not None:
                part = parts[i]
                params[self.names[i]] = unquote(part) if "%" in part else part
        return Match(self.route, self.index, params)

    def covers(self, other):
        """Does every path of the other route match here too?"""
        count = len(self.segments)
        if self.open:
            if len(other.segments) < count:
                return False
        elif other.open or len(other.segments) != count:
            return False
        for i in range(count):
            want, given = self.segments[i], other.segments[i]
            if want is None:
                if given == "":
                    return False
            elif want != given:
                return False
        return True

    def shadows(self, other):
        """Does every request for the other route match here first? Listeners and everything else included."""
        mine, theirs = set(self.route.listeners), set(other.route.listeners)
        if mine and (not theirs or not theirs <= mine):
            return False
        if not self.covers(other) or not self.covers_headers(other) or not self.covers_hosts(other):
            return False
        return self.methods is None or (other.methods is not None and other.methods <= self.methods)

    def covers_hosts(self, other):
        if self.hosts is None:
            return True
        return other.hosts is not None and all([self.fits_host(host) for host in other.hosts])

    def covers_headers(self, other):
        given = {name for name, value in other.headers}
        return all([name in given if value is None else (name, value) in other.headers for name, value in self.headers])

    def why_not(self, listener, host, path, method, headers):
        """In words why this route does not match; "" when it does, "method" alone when only the method does not fit."""
        if self.route.listeners and listener not in self.route.listeners:
            return f"only on listener {', '.join(self.route.listeners)}"
        if not self.fits_path(path):
            return f"path {path} is not {self.route.path}"
        if self.hosts is not None and not self.fits_host(plain_host(host)):
            return f"host {plain_host(host) or '(none)'} is not {', '.join(self.hosts)}"
        if not self.fits_headers(headers):
            return f"header {', '.join([name.decode() for name, value in self.headers])} is missing or different"
        return "" if self.methods is None or method in self.methods else "method"


class Side:
    """The routes of one listener."""

    def __init__(self, entries):
        self.entries = entries
        self.only = None
        self.buckets = None
        self.rest = entries
        self.hosted = any([entry.hosts is not None for entry in entries])
        self.choosy = any([bool(entry.headers) for entry in entries])
        first = entries[0] if entries else None
        if (
            first is not None
            and first.kind == ANY
            and first.hosts is None
            and first.methods is None
            and not first.headers
        ):
            self.only = first.match
        elif len(entries) > FEW:
            self.sort()

    def sort(self):
        """Entries by first segment, each list in file order; those without a fixed one are in every list."""
        firsts = {entry.segments[0] for entry in self.entries if entry.segments and entry.segments[0] is not None}
        self.rest = [entry for entry in self.entries if not entry.segments or entry.segments[0] is None]
        self.buckets = {}
        for first in firsts:
            self.buckets[first] = [
                e for e in self.entries if not e.segments or e.segments[0] is None or e.segments[0] == first
            ]

    def find(self, host, path, method, headers):
        entries = self.entries
        if self.buckets is not None:
            end = path.find("/", 1)
            entries = self.buckets.get(path[1:] if end < 0 else path[1:end], self.rest)
        bare = None
        passed = None
        for i in range(len(entries)):
            entry = entries[i]
            if not entry.fits_path(path):
                continue
            if entry.hosts is not None:
                if bare is None:
                    bare = plain_host(host)
                if not entry.fits_host(bare):
                    continue
            if entry.headers and not entry.fits_headers(headers):
                continue
            if passed is not None and not passed[0].covers(entry):
                continue
            if entry.methods is None or method in entry.methods:
                return entry.found(path)
            if passed is None:
                passed = []
            passed.append(entry)
        return None if passed is None else refusal(passed)


class Table:
    """All routes of a configuration. Immutable; a reload makes a new one."""

    def __init__(self, routes):
        self.entries = [Entry(route, index) for index, route in enumerate(routes)]
        self.sides = {}
        names = {name for route in routes for name in route.listeners}
        for name in names:
            self.sides[name] = Side([e for e in self.entries if not e.route.listeners or name in e.route.listeners])
        self.common = Side([e for e in self.entries if not e.route.listeners])

    def find(self, listener, host, path, method, headers):
        """The `Match` of a request, or None when no route has its path.

        `host` may have a port; `path` is the normalised raw path as text (`normalise_path`); `headers` have names in
        lower case.
        """
        side = self.sides.get(listener)
        if side is None:
            side = self.common
        if side.only is not None:
            return side.only
        return side.find(host, path, method, headers)

    def resolve(self, listener, request):
        """The same for a `Request`, whose `path`, `raw_path` and `query` it sets; raises `BadPath`.

        A target that is no path ("host:443" of a CONNECT) has no route; the "*" of OPTIONS fits routes without a path.
        """
        target = request.target
        if not target or (target[0] != 0x2F and target != b"*"):
            return None
        end = plain_until(target, target)
        if end < 0:
            end = target.find(b"?")
            raw, decoded = normalise_path(target if end < 0 else target[:end])
            path = raw.decode("ascii")
        else:
            raw = target if end == len(target) else target[:end]
            path = decoded = ""
        if 0 <= end < len(target):
            request.query = target[end + 1 :]
        request.raw_path = raw
        request.decoded = decoded  # "": whoever wants it makes it of `raw_path`
        side = self.sides.get(listener)
        if side is None:
            side = self.common
        if side.only is not None:
            return side.only
        host = request.authority.decode("latin-1") if side.hosted else ""
        headers = request.listed() if side.choosy else []
        method = request.method if not request.protocol else "GET"  # an extended CONNECT asks as a GET with Upgrade does
        return side.find(host, path or request.path, method, headers)


def refusal(passed):
    """The 405 of routes whose path fits and whose method does not."""
    methods = set()
    for entry in passed:
        methods |= entry.methods
    return Match(None, passed[0].index, {}, tuple(sorted(methods)))


def with_head(methods):
    return frozenset(methods) | ({"HEAD"} if "GET" in methods else frozenset())


def plain_host(host):
    """A host as it is compared: lower case, no port, no dot at the end."""
    host = host.lower()
    if host.endswith("]"):
        return host
    at = host.rfind(":")
    if at >= 0:
        host = host[:at]
    return host.removesuffix(".")


def parse_path(path):
    """(names, segments, open) of a route's path; a segment ``{x}`` is None in segments and "x" in names.

    Raises ValueError, with what would be right, for a path that could never match.
    """
    if path in ("", "/*", "*"):
        return (), (), True
    if not path.startswith("/"):
        raise ValueError(f'begins without a slash; write "/{path}"')
    is_open = path.endswith("/*")
    names, segments = [], []
    for part in path[1:-2].split("/") if is_open else path[1:].split("/"):
        name = PARAMETER.fullmatch(part)
        if name is None and ("*" in part or "{" in part or "}" in part):
            raise ValueError(f'has the segment {part}; "*" stands alone at the end, and {{name}} is a whole segment')
        if name is not None and name[1] in names:
            raise ValueError(f"has {{{name[1]}}} twice; give each its own name")
        names.append(None if name is None else name[1])
        segments.append(part if name is None else None)
    plain = "/" + "/".join(["x" if segment is None else segment for segment in segments])
    try:
        normal = normalise_path(quote(plain, safe="/%!$&'()*+,;=:@[]|\\^`<>\"").encode())[0].decode()
    except BadPath as error:
        raise ValueError(f"cannot match: {error}; {error.hint or 'write it as clients send it'}") from None
    if normal.count("/") != plain.count("/"):
        raise ValueError(f'has dot segments and can never match; write "{normal}"')
    cleaned = normal[1:].split("/")
    return tuple(names), tuple([None if s is None else c for s, c in zip(segments, cleaned)]), is_open


def plain_until(data, v):
    """Where the query of a target begins when its path is in normal form already: the length without one, -1 when not.

    Normal form: printable ASCII, no escape, no "/." and no "#".
    """
    n = len(data)
    previous = 0
    for i in range(n):
        c = v[i]
        if c == 0x3F:
            return i
        if c < 0x21 or c > 0x7E or c == 0x25 or c == 0x23 or (c == 0x2E and previous == 0x2F):
            return -1
        previous = c
    return n


def normalise_path(raw):
    """(normalised raw path, decoded path as text) of a path without its query; raises `BadPath`.

    The decoded path is what ASGI calls ``path``: all escapes decoded, as UTF-8, what is not UTF-8 replaced. A path that
    is in normal form comes back as the same object.
    """
    if plain_until(raw, raw) == len(raw):
        return raw, raw.decode("ascii")
    raw = remove_dots(ESCAPE.sub(normal_escape, raw))
    return raw, unquote_to_bytes(raw).decode("utf-8", "replace")


def normal_escape(found):
    """One escape or odd byte in its normal form (RFC 3986 section 6.2.2)."""
    text = found.group()
    if text[0] == 0x25:
        if found[1] is None:
            raise BadPath("the path has a broken percent escape", rule="bad-escape", hint="write % itself as %25")
        code = int(found[1], 16)
        if code == 0:
            raise BadPath("the path has a NUL", rule="nul-in-path")
        return bytes([code]) if code in UNRESERVED else text.upper()
    if text[0] >= 0x80:
        return b"%%%02X" % text[0]
    raise BadPath(f"the path has the character 0x{text[0]:02x}", rule="bad-path-character", hint="escape it")


def remove_dots(path):
    """RFC 3986 section 5.2.4, on a path that begins with a slash; others are left alone."""
    if b"/." not in path or path[:1] != b"/":
        return path
    out: list[bytes] = []
    parts = path[1:].split(b"/")
    for part in parts:
        if part == b"..":
            if out:
                out.pop()
        elif part != b".":
            out.append(part)
    if parts[-1] in (b".", b".."):
        out.append(b"")
    return b"/" + b"/".join(out)
