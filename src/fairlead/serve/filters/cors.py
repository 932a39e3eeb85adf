"""`cors`: which pages of other origins may read the answers (Fetch standard, section 3.2).

Rules
1. A preflight (OPTIONS with Origin and Access-Control-Request-Method) is answered here and never reaches the handler.
2. Other requests go on; their answers are marked only when the origin is allowed. It is the browser that refuses.
3. With credentials the origin itself is named, never `*`; whatever depends on Origin says so in Vary.
"""

from __future__ import annotations

from fairlead.core.errors import Refused
from fairlead.core.message import Response
from fairlead.serve.filters import vary

SAFELISTED = frozenset((b"accept", b"accept-language", b"content-language", b"content-type", b"range"))


class Cors:
    """Origins are texts such as "https://shop.example", "https://*.shop.example" (subdomains) or "*"."""

    def __init__(self, origins, methods=("GET", "HEAD", "POST"), headers=(), credentials=False, max_age=600, expose=()):
        self.everybody = "*" in origins
        self.origins = frozenset([one.lower().encode() for one in origins if "*" not in one])
        self.suffixes = tuple(
            [tuple(one.lower().encode().split(b"*", 1)) for one in origins if "*" in one and one != "*"]
        )
        self.methods = b", ".join([one.encode() for one in methods])
        self.headers = frozenset([one.lower().encode() for one in headers])
        self.credentials = credentials
        self.max_age = b"%d" % max_age
        self.expose = ", ".join(expose).encode()

    def allows(self, origin):
        """Is this value of Origin one of ours?"""
        low = origin.lower()
        if self.everybody or low in self.origins:
            return True
        return any([low.startswith(a) and low.endswith(b) and len(low) > len(a) + len(b) for a, b in self.suffixes])

    def before(self, exchange):
        request = exchange.request
        if request.method != "OPTIONS":
            return None
        origin, method = request.get(b"origin"), request.get(b"access-control-request-method")
        if origin is None or method is None:
            return None
        if not self.allows(origin):
            raise Refused("this origin may not ask", status=403)
        asked = (request.get(b"access-control-request-headers") or b"").lower()
        wanted = [name for name in [part.strip() for part in asked.split(b",")] if name]
        granted = [name for name in wanted if b"*" in self.headers or name in self.headers or name in SAFELISTED]
        headers = [
            (b"access-control-allow-methods", self.methods),
            (b"access-control-max-age", self.max_age),
            (b"vary", b"origin, access-control-request-method, access-control-request-headers"),
        ]
        if granted:
            headers.append((b"access-control-allow-headers", b", ".join(granted)))
        return Response(204, headers, 0)

    def after(self, exchange, response):
        origin = exchange.request.get(b"origin")
        if not self.everybody or self.credentials:
            vary(response, b"origin")
        if origin is None or not self.allows(origin):
            return
        gone = (b"access-control-allow-origin", b"access-control-allow-credentials")
        response.headers = [field for field in response.headers if field[0] not in gone]
        star = self.everybody and not self.credentials
        response.headers.append((b"access-control-allow-origin", b"*" if star else origin))
        if self.credentials:
            response.headers.append((b"access-control-allow-credentials", b"true"))
        if self.expose and response.status != 204:
            response.headers.append((b"access-control-expose-headers", self.expose))
