"""Who may come: by address (`networks`) and by user and password (`basic`, RFC 7617)."""

from __future__ import annotations

from base64 import b64decode
from hashlib import blake2b
from hmac import compare_digest
from ipaddress import ip_address
from os import urandom

from fairlead.core.errors import Refused
from fairlead.serve.filters import address_of, told
from fairlead.serve.forwarded import plain_address


class Networks:
    """`Networks(allow, deny)`: ipaddress networks, or "unix" for clients on a unix socket. `deny` is stronger."""

    def __init__(self, allow=(), deny=()):
        self.allow = tuple(allow)
        self.deny = tuple(deny)

    def before(self, exchange):
        text = plain_address(address_of(exchange))
        if within(text, self.deny) or (self.allow and not within(text, self.allow)):
            raise Refused("your address may not ask for this", status=403)


def within(text, networks):
    """True when the address (text, "" for a unix peer) is in one of the networks."""
    if not text:
        return "unix" in networks
    try:
        address = ip_address(text)
    except ValueError:
        return False
    return any([address in network for network in networks if network != "unix"])


class Basic:
    """`Basic(users, realm)`: users is a dict of name to password. The user's name becomes the exchange's principal.

    Passwords are compared as keyed hashes in constant time, and an unknown name costs as much as a known one.
    """

    def __init__(self, users, realm="fairlead"):
        self.key = urandom(16)
        self.users = {name.encode(): self.digest(password.encode()) for name, password in users.items()}
        self.nobody = urandom(16)
        quoted = realm.replace("\\", "\\\\").replace('"', '\\"').encode("utf-8")
        self.challenge = (b"www-authenticate", b'Basic realm="%b", charset="UTF-8"' % quoted)

    def digest(self, password):
        """A hash of a password that is only good inside this process."""
        return blake2b(password, key=self.key, digest_size=16).digest()

    def before(self, exchange):
        user = self.known(exchange.request.get(b"authorization"))
        if user is None:
            return told(401, "Unauthorized: this needs a user and a password", self.challenge)
        exchange.principal = user.decode("utf-8", "replace")
        return None

    def known(self, value):
        """The user that an Authorization field proves, or None."""
        if value is None or value[:6].lower() != b"basic ":
            return None
        try:
            user, found, password = b64decode(value[6:].strip(), validate=True).partition(b":")
        except ValueError:
            return None
        right = compare_digest(self.digest(password), self.users.get(user, self.nobody))
        return user if found and right else None
