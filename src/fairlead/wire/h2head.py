"""HTTP/2 header lists to Requests and Responses and back (RFC 9113 section 8, RFC 8441, RFC 9110).

Rules
1. Pseudo-header fields come first, once each, and only the ones that the message may have. The bytes of names and values
   were checked by `hpack`; `:path`, `:authority`, the method and the lengths are checked here.
2. Nothing of a connection may be there (section 8.2.2): what HTTP/1.1 would obey after translation is refused, not
   dropped, because a peer that sends it wants two readers to disagree.
3. `Host`, if it is there, says what `:authority` says. A Request's list begins with one `host` field, made of it; cookie
   crumbs are joined (section 8.2.3).
4. Said by us: the same fields are dropped silently (a handler may speak HTTP/1.1's language), the rest must be sound or
   nothing is said (AppError).
"""

from __future__ import annotations

from fairlead.core.errors import AppError
from fairlead.core.message import Request, Response
from fairlead.wire.h1bytes import LOW, METHODS, TARGET, VALUE, clean, good_host, number, special, token

try:
    from fairlead.wire import _fast
except ImportError:  # no compiler at install
    from fairlead.wire import _plain as _fast  # type: ignore[no-redef]

_TARGET = TARGET
_LOW = LOW
_VALUE = VALUE


def request_of(fields, scheme, end, extended):
    """The Request that a header list is, or the name of the rule that it breaks. `scheme`: this connection's.

    `end`: no body follows. `extended`: an extended CONNECT (RFC 8441) may come.
    """
    method = path = authority = given = protocol = host = cookie = None
    headers = [None]
    length = -1
    regular = expect = False
    for field in fields:
        name, value = field
        if not regular and name.startswith(b":"):
            if name == b":method":
                if method is not None:
                    return "two-pseudo"
                method = value
            elif name == b":path":
                if path is not None:
                    return "two-pseudo"
                path = value
            elif name == b":scheme":
                if given is not None:
                    return "two-pseudo"
                given = value
            elif name == b":authority":
                if authority is not None:
                    return "two-pseudo"
                authority = value
            elif name == b":protocol":
                if protocol is not None:
                    return "two-pseudo"
                protocol = value
            else:
                return "unknown-pseudo"
            continue
        regular = True
        kind = special(name)
        if kind:
            if kind == 2:
                if length >= 0:
                    return "bad-cl"
                length = number(value)
                if length < 0:
                    return "bad-cl"
            elif kind == 1:
                if host is not None:
                    return "host-differs"
                host = value
                continue
            elif kind == 5:
                if value.lower() != b"100-continue":
                    return "expect"
                expect = True
            elif kind == 3 or kind == 4 or kind == 6 or kind == 9:
                return "connection-field"
            elif kind == 10:
                if name == b"cookie":
                    if cookie is not None:
                        cookie.append(value)
                        continue
                    cookie = [value]
                elif name == b"te" and value.lower() != b"trailers":
                    return "bad-te"
        elif name.startswith(b":"):
            return "late-pseudo"
        headers.append(field)
    if method is None:
        return "missing-pseudo"
    text = METHODS.get(method)
    if text is None:
        if not token(method):
            return "bad-method"
        text = method.decode("ascii")
    if authority is None:
        authority = host
    elif host is not None and host != authority:
        return "host-differs"
    if text == "CONNECT":
        if protocol is None:
            if path is not None or given is not None or authority is None:
                return "bad-connect"
            path = authority
        elif not extended or path is None or given is None or not token(protocol):
            return "bad-connect"
        end = False
        length = -1
    elif protocol is not None:
        return "bad-connect"
    elif path is None or given is None:
        return "missing-pseudo"
    if given is not None and given != b"https" and given != b"http":
        return "bad-scheme"
    if not path or not _fast.only(path, _TARGET):
        return "bad-path"
    if path[0] != 47 and not (text == "OPTIONS" and path == b"*") and not (text == "CONNECT" and protocol is None):
        return "bad-path"
    if authority is None or not good_host(authority):
        return "bad-authority" if authority is not None else "missing-pseudo"
    if end:
        if length > 0:
            return "wrong-length"
        length = 0
    headers[0] = (b"host", authority)
    if cookie is not None and len(cookie) > 1:
        headers = [(b"cookie", b"; ".join(cookie)) if field[0] == b"cookie" else field for field in headers]
    message = Request.__new__(Request)
    message.begin(text, scheme, authority, path, headers, "2", length)
    message.expect = expect and not end
    if protocol is not None:
        message.protocol = protocol.lower()
    return message


def response_of(fields, method, end):
    """The Response that a header list is, or the name of the rule that it breaks. `method`: of its request."""
    status = None
    headers = []
    length = -1
    regular = False
    for field in fields:
        name, value = field
        if not regular and name.startswith(b":"):
            if name != b":status":
                return "unknown-pseudo"
            if status is not None:
                return "two-pseudo"
            status = value
            continue
        regular = True
        kind = special(name)
        if kind:
            if kind == 2:
                if length >= 0:
                    return "bad-cl"
                length = number(value)
                if length < 0:
                    return "bad-cl"
            elif kind == 3 or kind == 4 or kind == 6 or kind == 9:
                return "connection-field"
        elif name.startswith(b":"):
            return "late-pseudo"
        headers.append(field)
    if status is None:
        return "missing-pseudo"
    code = number(status)
    if len(status) != 3 or code < 100 or code == 101:
        return "bad-status"
    if code < 200:
        if end:
            return "bad-status"
    elif method == "HEAD" or code == 204 or code == 304:
        length = 0
    elif method == "CONNECT" and code < 300:
        length = -1
    elif end:
        if length > 0:
            return "wrong-length"
        length = 0
    message = Response.__new__(Response)
    message.begin(code, headers, length, b"", "2")
    return message


def trailers_of(fields):
    """The fields of a trailer section, or the name of the rule that they break."""
    for name, _ in fields:
        if name.startswith(b":"):
            return "late-pseudo"
        kind = special(name)
        if kind and kind != 7 and kind != 8:
            return "connection-field" if kind in (3, 4, 6, 9) else "bad-trailer"
    return fields


class Given:
    """What a handler's fields said that is for us; `put` sets it anew for each head."""

    def put(self, kept, headers, request):
        """Append the fields that are for the peer to the list `kept`; AppError when one may not be said."""
        self.length = -1
        self.date = self.server = False
        self.priority = None
        for field in headers:
            name, value = field
            kind = special(name)
            if kind:
                if kind == 3 or kind == 4 or kind == 6 or kind == 9:
                    continue
                if kind == 1 and request:
                    continue
                if kind == 2:
                    self.note_length(value)
                    continue
                if kind == 7:
                    self.date = True
                elif kind == 8:
                    self.server = True
                elif kind == 10 and name == b"te" and value != b"trailers":
                    continue
            elif name == b"priority":
                self.priority = value
            if not sound(name, len(name), value, len(value)):
                field = mended(name, value)
            kept.append(field)

    def note_length(self, value):
        """A Content-Length."""
        length = number(value)
        if length < 0 or (self.length >= 0 and self.length != length):
            raise AppError(f"content-length {value!r} is not one number")
        self.length = length


def sound(n, size, v, count):
    """Whether a field may be said as it is: a token in lower case, no control byte, no white space around the value."""
    low = _LOW
    allowed = _VALUE
    if size == 0:
        return False
    i = 0
    while i < size:
        if low[n[i]] != n[i] or n[i] == 0:
            return False
        i += 1
    if count and (v[0] <= 32 or v[count - 1] <= 32):
        return False
    i = 0
    while i < count:
        if not allowed[v[i]]:
            return False
        i += 1
    return True


def mended(name, value):
    """A field with its name in lower case and its value trimmed; AppError when that does not make it sound."""
    name = name.lower()
    value = value.strip(b" \t")
    if not token(name) or not clean(value):
        raise AppError(f"the field {name!r} has a byte that would break the head", hint="no control bytes")
    return (name, value)
