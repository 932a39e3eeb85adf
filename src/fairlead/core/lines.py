# cython: wraparound=False, initializedcheck=False, cdivision=True
"""Lines: access-log lines, built as bytes in one buffer, and handed over in large pieces.

Rules
1. One request is one line. What a peer sent (target, host, id) is escaped: control characters, quotes, backslashes
   and bytes from 0x80 on become `\\xHH` (in JSON `\\u00HH`), so nobody can forge a line or move a terminal's cursor.
2. Text: time (of the request's first byte), client, "METHOD target HTTP/version", status, bytes in, bytes out, total
   ms, `name=ms` for each step that took 1 us or more, `T=Th/Ti/TR/Tw/Tc/Tr/Td/Ta`, `id=`, `end=` (`-` when all went
   well), `messages=in/out` (of a WebSocket), `route=`.
3. The T block is HAProxy's (configuration manual, 8.4 "Timing events"), in whole milliseconds, -1 for what never
   happened: Th TLS handshake, Ti idle before the request, TR request head, Tw queue, Tc dial, Tr wait for the
   answer's head, Td data, Ta active time. Our steps stand beside it; the JSON form names each.
4. Nothing here does I/O: `write` is called with a memoryview when `hold` bytes are reached, and by `flush()`.
"""

from __future__ import annotations

from time import gmtime, strftime

from fairlead.core.journey import STEPS

TARGET_MOST = 4096  # bytes of a target that a line shows
MARGIN = 40960  # room that one line needs at most: target and host escaped six-fold, and the rest
COMPILED = not __file__.endswith(".py")
HEX = b"0123456789abcdef"
TIMERS = (b"Th", b"Ti", b"TR", b"Tw", b"Tc", b"Tr", b"Td", b"Ta")


class Lines:
    """A buffer of lines. Before `add`, set `wall` (realtime ns), `number`, `status`, and `bytes_` and `messages_in` and `_out`.

    `worker` and `number` make the id of a request that has none: `worker.number`, the number in hexadecimal.
    """

    def __init__(self, write, form="text", hold=65536, query=True):
        self.worker = 0
        self.wall = self.number = self.bytes_in = self.bytes_out = self.messages_in = self.messages_out = 0
        self.status = 0
        self.write = write
        self.json = form == "json"
        self.hold = hold
        self.query = query
        self.buffer = bytearray(hold + MARGIN)
        self.used = 0
        self.lines = 0
        self.second = -1
        self.stamp = b""
        self.names = [n.encode() for n in STEPS]
        self.hex = HEX

    def add(self, request, method, version, peer, ident, end, route, took, timers):
        """One line, of bytes and two arrays: step times by STEPS and their total, HAProxy's timers by TIMERS."""
        if self.used >= self.hold:
            self.flush()
        second = self.wall // 1000000000
        if second != self.second:
            self.second = second
            self.stamp = strftime("%Y-%m-%dT%H:%M:%S", gmtime(second)).encode()
        target = request.target
        if len(target) > 4096:
            target = target[:4096]
        if not self.query:
            target = target.split(b"?", 1)[0]
        millis = (self.wall - second * 1000000000) // 1000000
        if self.json:
            self.add_json(millis, request, target, method, version, peer, ident, end, route, took, timers)
        else:
            self.add_text(millis, request, target, method, version, peer, ident, end, route, took, timers)
        self.lines += 1

    def add_text(self, millis, request, target, method, version, peer, ident, end, route, took, timers):
        v = self.buffer
        at = self.put_stamp(v, self.used, millis)
        v[at] = 32
        at = self.put_safe(v, at + 1, peer, peer, 64)
        v[at] = 32
        v[at + 1] = 34
        at = self.put_safe(v, at + 2, method, method, 64)
        v[at] = 32
        at = self.put_safe(v, at + 1, target, target, 4096)
        at = put(v, at, b" HTTP/", b" HTTP/")
        at = put(v, at, version, version)
        v[at] = 34
        v[at + 1] = 32
        at = put_int(v, at + 2, self.status)
        v[at] = 32
        at = put_int(v, at + 1, self.bytes_in)
        v[at] = 32
        at = put_int(v, at + 1, self.bytes_out)
        v[at] = 32
        at = put_ms(v, at + 1, took[17])
        for i in range(17):
            if took[i] >= 1000:
                name = self.names[i]
                v[at] = 32
                at = put(v, at + 1, name, name)
                v[at] = 61
                at = put_ms(v, at + 1, took[i])
        at = put(v, at, b" T=", b" T=")
        for i in range(8):
            if i:
                v[at] = 47
                at += 1
            at = put_int(v, at, timers[i])
        at = put(v, at, b" id=", b" id=")
        at = self.put_ident(v, at, ident)
        at = put(v, at, b" end=", b" end=")
        at = self.put_safe(v, at, end, end, 64)
        if self.messages_in or self.messages_out:
            at = put(v, at, b" messages=", b" messages=")
            at = put_int(v, at, self.messages_in)
            v[at] = 47
            at = put_int(v, at + 1, self.messages_out)
        if route:
            at = put(v, at, b' route="', b' route="')
            at = self.put_safe(v, at, route, route, 128)
            v[at] = 34
            at += 1
        v[at] = 10
        self.used = at + 1

    def add_json(self, millis, request, target, method, version, peer, ident, end, route, took, timers):
        v = self.buffer
        at = put(v, self.used, b'{"time":"', b'{"time":"')
        at = self.put_stamp(v, at, millis)
        at = self.put_member(v, at, b'","client":"', peer, 64)
        at = self.put_member(v, at, b'","method":"', method, 64)
        at = self.put_member(v, at, b'","host":"', request.authority, 256)
        at = self.put_member(v, at, b'","target":"', target, 4096)
        at = self.put_member(v, at, b'","protocol":"HTTP/', version, 8)
        at = put(v, at, b'","status":', b'","status":')
        at = put_int(v, at, self.status)
        at = put(v, at, b',"bytes_in":', b',"bytes_in":')
        at = put_int(v, at, self.bytes_in)
        at = put(v, at, b',"bytes_out":', b',"bytes_out":')
        at = put_int(v, at, self.bytes_out)
        at = put(v, at, b',"total_ms":', b',"total_ms":')
        at = put_ms(v, at, took[17])
        at = put(v, at, b',"steps":{', b',"steps":{')
        some = 0
        for i in range(17):
            if took[i] >= 1000:
                at = self.put_key(v, at, self.names[i], some)
                at = put_ms(v, at, took[i])
                some = 1
        at = put(v, at, b'},"haproxy":{', b'},"haproxy":{')
        for i in range(8):
            at = self.put_key(v, at, TIMERS[i], i)
            at = put_int(v, at, timers[i])
        at = put(v, at, b'},"id":"', b'},"id":"')
        at = self.put_ident(v, at, ident)
        at = self.put_member(v, at, b'","end":"', end, 64)
        at = self.put_member(v, at, b'","route":"', route, 128)
        if self.messages_in or self.messages_out:
            at = put(v, at, b'","messages_in":', b'","messages_in":')
            at = put_int(v, at, self.messages_in)
            at = put(v, at, b',"messages_out":', b',"messages_out":')
            at = put_int(v, at, self.messages_out)
            at = put(v, at, b"}\n", b"}\n")
        else:
            at = put(v, at, b'"}\n', b'"}\n')
        self.used = at

    def put_stamp(self, v, at, millis):
        at = put(v, at, self.stamp, self.stamp)
        v[at] = 46
        v[at + 1] = 48 + millis // 100
        v[at + 2] = 48 + millis // 10 % 10
        v[at + 3] = 48 + millis % 10
        v[at + 4] = 90
        return at + 5

    def put_ident(self, v, at, ident):
        if ident:
            return self.put_safe(v, at, ident, ident, 128)
        at = put_int(v, at, self.worker)
        v[at] = 46
        return put_hex(v, at + 1, self.number)

    def put_member(self, v, at, key, data, most):
        """`key` is all that stands before the value, its opening quote included."""
        at = put(v, at, key, key)
        return self.put_safe(v, at, data, data, most)

    def put_key(self, v, at, name, more):
        if more:
            v[at] = 44
            at += 1
        v[at] = 34
        at = put(v, at + 1, name, name)
        v[at] = 34
        v[at + 1] = 58
        return at + 2

    def put_safe(self, v, at, data, d, most):
        """At most `most` bytes of what somebody else wrote, escaped; `-` for nothing (in text)."""
        count = len(data)
        if count > most:
            count = most
        if count == 0 and not self.json:
            v[at] = 45
            return at + 1
        if COMPILED and plain_octets(d, count):  # type: ignore[name-defined]  # noqa: F821 (in the .pxd)
            copy_octets(v, at, d, count)  # type: ignore[name-defined]  # noqa: F821
            return at + count
        for i in range(count):
            c = d[i]
            if 32 <= c < 127 and c != 34 and c != 92:
                v[at] = c
                at += 1
            else:
                at = self.put_escape(v, at, c)
        return at

    def put_escape(self, v, at, c):
        v[at] = 92
        if self.json:
            v[at + 1] = 117
            v[at + 2] = v[at + 3] = 48
            at += 4
        else:
            v[at + 1] = 120
            at += 2
        v[at] = self.hex[c >> 4]
        v[at + 1] = self.hex[c & 15]
        return at + 2

    def flush(self):
        """Hand over what there is."""
        if self.used:
            size = self.used
            self.used = 0
            self.write(memoryview(self.buffer)[:size])


def put(v, at, data, d):
    """Copy bytes; `d` is `data` again (a pointer when compiled)."""
    count = len(data)
    if COMPILED:
        copy_octets(v, at, d, count)  # type: ignore[name-defined]  # noqa: F821 (in the .pxd)
        return at + count
    for i in range(count):
        v[at + i] = d[i]
    return at + count


def put_int(v, at, value):
    """A whole number in decimal."""
    if 0 <= value < 10:  # most are
        v[at] = 48 + value
        return at + 1
    if value < 0:
        v[at] = 45
        at += 1
        value = -value
    size = 1
    top = 10
    while value >= top and size < 18:
        top *= 10
        size += 1
    i = at + size
    while i > at:
        i -= 1
        v[i] = 48 + value % 10
        value //= 10
    return at + size


def put_hex(v, at, value):
    """A number in hexadecimal."""
    size = 1
    while size < 16 and value >> (4 * size):
        size += 1
    for i in range(size):
        digit = (value >> (4 * (size - 1 - i))) & 15
        v[at + i] = 48 + digit if digit < 10 else 87 + digit
    return at + size


def put_ms(v, at, ns):
    """Nanoseconds as milliseconds with three digits after the point."""
    micros = ns // 1000
    if micros < 0:
        micros = 0
    at = put_int(v, at, micros // 1000)
    rest = micros % 1000
    v[at] = 46
    v[at + 1] = 48 + rest // 100
    v[at + 2] = 48 + rest // 10 % 10
    v[at + 3] = 48 + rest % 10
    return at + 4
