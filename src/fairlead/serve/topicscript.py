"""The JavaScript client, served by every topic route: `<route>/$client.js`, and its types `$client.d.ts`.

Names that begin with `$` are no topics of anybody's, so no route, setting or file is needed for it, and a page gets the client
that fits the server it talks to. It is an ES module without dependencies; `script/client.js` says what it promises.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from fairlead.serve.topicwords import SECURITY

TYPES = {"$client.js": b"text/javascript; charset=utf-8", "$client.d.ts": b"text/plain; charset=utf-8"}
Said = tuple[int, bytes, list[tuple[bytes, bytes]]]


@cache
def script(name: str) -> tuple[bytes, bytes]:
    """(the file, its ETag)."""
    text = files("fairlead.serve").joinpath("script", name.removeprefix("$")).read_bytes()
    return text, b'"%b"' % sha256(text).hexdigest()[:20].encode()


def asked(request: Any) -> Said | None:
    """The answer (status, body, fields) when a request is for one of the files; else None."""
    name = request.path.rpartition("/")[2]
    if name not in TYPES or request.method not in ("GET", "HEAD"):
        return None
    body, tag = script(name)
    fields = [(b"content-type", TYPES[name]), (b"etag", tag), (b"cache-control", b"public, max-age=3600"), *SECURITY]
    if tag in (request.get(b"if-none-match") or b""):
        return 304, b"", fields
    return 200, body, fields
