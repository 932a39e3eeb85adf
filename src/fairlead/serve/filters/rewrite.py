"""Another path (`rewrite`), and nobody for a while (`maintenance`)."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote

from fairlead.core.errors import AppError
from fairlead.core.message import Response
from fairlead.serve.filters import address_of
from fairlead.serve.filters.access import within
from fairlead.serve.forwarded import plain_address

SECOND = 1_000_000_000
LOOK_EVERY = SECOND  # how often the flag file is looked for


class Rewrite:
    """Gives the handler another path: `match` is a regular expression searched in the percent-encoded path, `to` what
    stands in place of what matched (`\\1`, `\\g<name>`). What does not match goes on as it is; the query always does.
    """

    def __init__(self, match, to):
        self.match = re.compile(match)
        self.to = to

    def before(self, exchange):
        request = exchange.request
        path = request.raw_path.decode("latin-1")
        changed = self.match.sub(self.to, path, count=1)
        if changed == path:
            return
        if not changed.startswith("/") or any(c <= " " or c in "?#\x7f" for c in changed):
            raise AppError(
                f"the rewrite of this path gave {changed!r}", hint="a path begins with / and has no ? or blank"
            )
        request.raw_path = changed.encode("latin-1")
        request.path = unquote(changed)
        request.target = request.raw_path + (b"?" + request.query if request.query else b"")


class Maintenance:
    """Answers 503 to everybody but `allow` (networks) while it is on: always, or while the file `flag` exists.

    The file is looked for at most once a second.
    """

    def __init__(self, body, content_type="text/plain; charset=utf-8", flag="", retry=60, allow=()):
        self.body = body
        self.content_type = content_type.encode()
        self.flag = flag
        self.retry = b"%d" % retry
        self.allow = tuple(allow)
        self.on = not flag
        self.looked = 0

    def before(self, exchange):
        now = exchange.conn.clock.now()
        if self.flag and now - self.looked >= LOOK_EVERY:
            self.looked = now
            self.on = os.path.exists(self.flag)
        if not self.on or (self.allow and within(plain_address(address_of(exchange)), self.allow)):
            return None
        headers = [
            (b"content-type", self.content_type),
            (b"content-length", b"%d" % len(self.body)),
            (b"retry-after", self.retry),
            (b"cache-control", b"no-store"),
        ]
        return Response(503, headers, len(self.body)), b"" if exchange.request.method == "HEAD" else self.body
