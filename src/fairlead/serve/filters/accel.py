"""`accel`: an application says which file is the answer, and the server sends it.

The application checks who asks and answers with `X-Accel-Redirect: /reports/7.pdf` (a path below `prefix`, percent-encoded) or
`X-Sendfile: /srv/private/reports/7.pdf` (an absolute path inside the directory). Its other fields stay (type, disposition,
cookies, caching); validators, ranges and the length are the file's. The body it sends is thrown away.

Only what the directory holds can be named, whatever the application passes on from a client. Without one of the fields the
answer goes out as it is; the fields themselves never leave.
"""

from __future__ import annotations

from urllib.parse import quote_from_bytes

from fairlead.core.errors import AppError
from fairlead.core.handler import Handler
from fairlead.serve.beneath import segments

OURS = frozenset(
    (b"x-accel-redirect", b"x-sendfile", b"content-length", b"transfer-encoding", b"etag", b"last-modified",
     b"accept-ranges", b"content-range", b"content-encoding")
)  # fmt: skip


class Accel:
    """`files` is a serve.files.Files over the directory; `prefix` is taken off a redirect's path."""

    def __init__(self, files, prefix=""):
        self.files = files
        self.prefix = prefix.rstrip("/").encode()

    def after(self, exchange, response):
        path = None
        for name, value in response.headers:
            if name == b"x-accel-redirect":
                path = value.removeprefix(self.prefix) if value.startswith(self.prefix + b"/") else b"/.."
            elif name == b"x-sendfile":
                top = self.files.directory.path.rstrip(b"/") + b"/"
                path = b"/" + quote_from_bytes(value[len(top) :]).encode() if value.startswith(top) else b"/.."
        if path is not None:
            exchange.conn.hand_over(exchange, Named(self.files, path, response))


class Named(Handler):
    """Answers one exchange with the file that its application named."""

    def __init__(self, files, path, response):
        self.files = files
        self.path = path
        self.response = response

    def open(self, exchange):
        parts = segments(self.path.partition(b"?")[0], hidden=True)
        if not parts:
            raise AppError(f"the app named the file {self.path!r}"[:200], hint="name one inside the accel directory")
        extra = [field for field in self.response.headers if field[0] not in OURS]
        try:
            self.files.named(exchange, parts, extra)
        except OSError as error:
            raise AppError(f"the app named the file {self.path!r}, which cannot be opened: {error.strerror}") from None
