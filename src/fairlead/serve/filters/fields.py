"""Header fields: set, added and removed on either side (`headers`), and the ones browsers need to be safe (`security`)."""

from __future__ import annotations


class Headers:
    """`Headers(request, response)`: each a (set, add, remove) of (name, value) pairs and names, in lower-case bytes."""

    def __init__(self, request=((), (), ()), response=((), (), ())):
        self.request = request
        self.response = response

    def before(self, exchange):
        if any(self.request):
            exchange.request.headers = changed(exchange.request.headers, *self.request)

    def after(self, exchange, response):
        if any(self.response):
            response.headers = changed(response.headers, *self.response)


def changed(headers, replace, add, remove):
    """A header list with fields set (the old ones out), added, and removed."""
    gone = {name for name, _ in replace}.union(remove)
    return [field for field in headers if field[0] not in gone] + list(replace) + list(add)


class Security:
    """Fields that make a browser careful; one that the answer has already is left alone.

    `fields`: (name, value) pairs for every answer. `hsts`: value of Strict-Transport-Security, b"" for none; it is said
    over HTTPS only, because browsers ignore it elsewhere (RFC 6797 section 7.2).
    """

    def __init__(self, fields, hsts=b""):
        self.fields = tuple(fields)
        self.hsts = hsts

    def after(self, exchange, response):
        there = {name for name, _ in response.headers}
        if self.hsts and exchange.request.scheme == "https" and b"strict-transport-security" not in there:
            response.headers.append((b"strict-transport-security", self.hsts))
        for field in self.fields:
            if field[0] not in there:
                response.headers.append(field)
