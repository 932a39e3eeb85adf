"""Header lists of HTTP/2 and HTTP/3 to Requests and Responses and back (RFC 9113 section 8, RFC 9114 4, RFC 8441, RFC 9110).

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
from fairlead.core.message import REASONS, Request, Response
from fairlead.wire.h1bytes import LOW, METHODS, TARGET, VALUE, clean, clean_target, good_host, number, special, token

try:
    from fairlead.wire import _fast
except ImportError:  # no compiler at install
    from fairlead.wire import _plain as _fast  # type: ignore[no-redef]

_TARGET = TARGET
_LOW = LOW
_VALUE = VALUE
_VISIBLE = bytes(1 if 32 < c != 127 else 0 for c in range(256))
_METHOD_BYTES = {name: raw for raw, name in METHODS.items()}
_STATUS = {status: (b":status", b"%d" % status) for status in REASONS}


class Asked:
    """A request's header list being understood: `request` does it for one head after the other."""

    def request(self, fields, scheme, end, extended):
        """The Request that a header list is, or the name of the rule that it breaks. `scheme`: this connection's.

        `end`: no body follows. `extended`: an extended CONNECT (RFC 8441) may come.
        """
        self.method = self.path = self.authority = self.scheme = self.protocol = self.host = None
        self.cookies = None
        self.length = -1
        self.expect = False
        self.headers = [None]
        at = self.pseudo(fields)
        rule = self.wrong if at < 0 else self.regular(fields, at)
        if rule is None:
            rule = self.routing(extended)
        if rule is not None:
            return rule
        if self.method == "CONNECT":
            end = False
            self.length = -1
        if end:
            if self.length > 0:
                return "wrong-length"
            self.length = 0
        headers: list = self.headers
        self.headers = []
        headers[0] = (b"host", self.authority)
        cookies = self.cookies
        if cookies is not None and len(cookies) > 1:
            headers = [(b"cookie", b"; ".join(cookies)) if field[0] == b"cookie" else field for field in headers]
        message = Request.__new__(Request)
        message.begin(self.method, scheme, self.authority, self.path, headers, "2", self.length)
        message.expect = self.expect and not end
        if self.protocol is not None:
            message.protocol = self.protocol.lower()
        return message

    def pseudo(self, fields):
        """Read the pseudo-header fields; how many there are, or -1 with the rule in `wrong`."""
        count = 0
        for field in fields:
            name, value = field
            if not name.startswith(b":"):
                break
            count += 1
            before = None
            if name == b":method":
                before = self.verb(value)
            elif name == b":path":
                before, self.path = self.path, value
            elif name == b":scheme":
                before, self.scheme = self.scheme, value
            elif name == b":authority":
                before, self.authority = self.authority, value
            elif name == b":protocol":
                before, self.protocol = self.protocol, value
            else:
                self.wrong = "unknown-pseudo"
                return -1
            if before is not None:
                self.wrong = "two-pseudo"
                return -1
        self.wrong = "bad-method"
        return -1 if self.method == "" else count

    def verb(self, value):
        """The method; "" when it is none. What it was before."""
        before = self.method
        self.method = METHODS.get(value)
        if self.method is None:
            self.method = value.decode("ascii") if token(value) else ""
        return None if before is None else value

    def regular(self, fields, at):
        """Read the other fields; the rule that one breaks, or None."""
        headers = self.headers
        count = len(fields)
        while at < count:
            field = fields[at]
            at += 1
            kind = special(field[0])
            if kind:
                if kind == 3 or kind == 4 or kind == 6 or kind == 9:
                    return "connection-field"
                if kind != 7 and kind != 8:
                    rule = self.note(kind, field[0], field[1])
                    if rule is not None:
                        if rule:
                            return rule
                        continue
            elif field[0].startswith(b":"):
                return "late-pseudo"
            headers.append(field)
        return None

    def note(self, kind, name, value):
        """A field that decides something: None to keep it, "" to leave it out, or the rule that it breaks."""
        if kind == 2:
            if self.length >= 0:
                return "bad-cl"
            self.length = number(value)
            return "bad-cl" if self.length < 0 else None
        if kind == 1:
            if self.host is not None:
                return "host-differs"
            self.host = value
            return ""
        if kind == 5:
            self.expect = True
            return None if value.lower() == b"100-continue" else "expect"
        if name == b"cookie":
            if self.cookies is not None:
                self.cookies.append(value)
                return ""
            self.cookies = [value]
        elif name == b"te" and value.lower() != b"trailers":
            return "bad-te"
        return None

    def routing(self, extended):
        """The rule that the pseudo-header fields and Host break together, or None."""
        path = self.path
        if self.method is None:
            return "missing-pseudo"
        if self.authority is None:
            self.authority = self.host
        elif self.host is not None and self.host != self.authority:
            return "host-differs"
        if self.method == "CONNECT":
            if self.protocol is None:
                if path is not None or self.scheme is not None or self.authority is None:
                    return "bad-connect"
                path = self.path = self.authority
            elif not extended or path is None or self.scheme is None or not token(self.protocol):
                return "bad-connect"
        elif self.protocol is not None:
            return "bad-connect"
        elif path is None or self.scheme is None:
            return "missing-pseudo"
        if self.scheme is not None and self.scheme != b"https" and self.scheme != b"http":
            return "bad-scheme"
        if not path or not _fast.only(path, _TARGET):
            return "bad-path"
        if path[0] != 47 and not (self.method == "OPTIONS" and path == b"*"):
            if self.method != "CONNECT" or self.protocol is not None:
                return "bad-path"
        if self.authority is None:
            return "missing-pseudo"
        return None if good_host(self.authority) else "bad-authority"


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
    """What a handler's fields said that is for us; `put` sets it anew for each head. After `answer` and `ask`: `length` is
    what the body's bytes must add up to (-1: anything), `bodiless`: none may be sent, `tunnel`: raw bytes follow.
    """

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

    def answer(self, message, method, end, common):
        """The header list of a final Response to a request of `method`; AppError when it may not be said."""
        status = message.status
        if status < 200 or status > 999:
            raise AppError(f"{status} is not a final status")
        fields: list = [status_field(status)]
        self.put(fields, message.listed(), False)
        tunnel = method == "CONNECT" and status < 300
        bodiless = status == 204 or status == 304 or method == "HEAD"
        length = self.length
        if length < 0 and message.length > 0 and not end:
            length = message.length
        if end and length > 0 and not bodiless and not tunnel:
            raise AppError(
                f"the answer promises {length} bytes and has no body", hint="drop content-length or send the body"
            )
        if bodiless or tunnel:
            if length >= 0 and status != 204 and not tunnel:
                fields.append((b"content-length", _fast.decimal(length)))
            length = -1
        elif length >= 0 or end:
            fields.append((b"content-length", _fast.decimal(length if length > 0 else 0)))
        if common is not None:
            if not self.date:
                fields.append((b"date", common.date))
            if not self.server and common.server:
                fields.append((b"server", common.server))
        self.length = length
        self.bodiless = bodiless
        self.tunnel = tunnel
        return fields

    def ask(self, message, end, extended):
        """The header list of a Request; AppError when it may not be said. `extended`: the peer takes extended CONNECT."""
        method = _METHOD_BYTES.get(message.method)
        if method is None:
            method = message.method.encode("latin-1", "replace")
            if not token(method):
                raise AppError(f"{message.method!r} is no method")
        if not clean_target(message.target):
            raise AppError(f"{message.target!r} is no request-target")
        connect = message.method == "CONNECT"
        if connect and message.protocol and not extended:
            raise AppError("the upstream does not take extended CONNECT", hint="it speaks no WebSocket over this version")
        fields: list = [(b":method", method)]
        if not connect or message.protocol:
            fields.append((b":scheme", b"https" if message.scheme == "https" else b"http"))
        if message.authority:
            fields.append((b":authority", message.authority))
        if not connect or message.protocol:
            fields.append((b":path", message.target))
        if message.protocol:
            fields.append((b":protocol", message.protocol))
        self.put(fields, message.listed(), True)
        length = self.length
        if end and length > 0:
            raise AppError(f"the request promises {length} bytes and has no body")
        if connect:
            length = -1
        elif not end:
            if length < 0 and message.length > 0:
                length = message.length
            if length >= 0:
                fields.append((b"content-length", _fast.decimal(length)))
        elif length == 0 or message.method in ("POST", "PUT", "PATCH"):
            fields.append((b"content-length", b"0"))
        if not token_fields(fields):
            raise AppError("the authority has a byte that may not be there")
        self.length = length
        self.tunnel = connect
        self.bodiless = False
        return fields


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


def status_field(status):
    """The pseudo-header field of a status."""
    field = _STATUS.get(status)
    return field if field is not None else (b":status", b"%d" % status)


def said_trailers(trailers):
    """Trailer fields that may be said; those that may not be there are left out."""
    found = []
    for name, value in trailers:
        kind = special(name)
        if kind == 0 or kind == 7 or kind == 8:
            found.append(mended(name, value))
    return found


def token_fields(fields):
    """Whether the pseudo-header fields have no byte that breaks them."""
    for name, value in fields:
        if not name.startswith(b":"):
            return True
        if not _fast.only(value, _VISIBLE):
            return False
    return True
