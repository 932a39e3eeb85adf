"""`jwt`: a bearer token must be valid (RFC 6750, 7519). The claims become the exchange's principal.

Rules
1. Only the algorithms that are named are accepted; "none" never is. The key comes from the configuration or the key set, never
   from the token; a key set (RFC 7517) is asked for by `kid`, and a token without one is tried with the only key there is.
2. The key set is fetched when it is needed first, kept for LIFETIME, and then fetched again in the background. A `kid`
   nobody knows asks again, but not more often than AGAIN, and one fetch serves all that wait. While it cannot be fetched
   the old one holds for STALE; with none at all the answer is 503, because it is not the client's fault.
3. `exp` and `nbf` are checked with LEEWAY for clocks that differ; `iss` and `aud` when they are configured.
4. A token that was found valid is remembered until it expires, at most KEPT of them for at most REMEMBER.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import urllib.request
from typing import Any

from fairlead.core.errors import ConfigError, Refused
from fairlead.serve.filters import told

LIFETIME = 300.0  # seconds a fetched key set is fresh
AGAIN = 10.0  # seconds between two fetches because of an unknown key
STALE = 86400.0  # seconds an old key set stands in while it cannot be fetched
TIMEOUT = 5.0  # seconds one fetch may take
LARGEST = 1 << 20  # bytes of a key set
LEEWAY = 30  # seconds
KEPT = 4096  # valid tokens remembered
REMEMBER = 60.0  # seconds
SYMMETRIC = ("HS256", "HS384", "HS512")
log = logging.getLogger("fairlead.error")


class KeySet:
    """The keys at a URL (`https:`, `http:` or `file:`). `key(kid)` gives a key, None, or an awaitable of these."""

    def __init__(self, url, clock=time.monotonic):
        self.url = url
        self.clock = clock
        self.keys: dict[str, Any] = {}
        self.fetched = self.tried = -STALE
        self.fetching: asyncio.Task | None = None

    def key(self, kid):
        """The key of this id ("" for the only one), at once when it is known."""
        now = self.clock()
        found = self.find(kid)
        age = now - self.fetched
        if found is not None and age < STALE:
            if age >= LIFETIME and now - self.tried >= AGAIN:
                self.refresh()
            return found
        if self.fetching is None and now - self.tried < AGAIN:
            if age >= STALE:
                raise Refused("tokens cannot be checked right now", status=503, after=int(AGAIN))
            return None
        return self.ask(kid)

    def find(self, kid):
        """The key among those fetched."""
        if kid:
            return self.keys.get(kid)
        return next(iter(self.keys.values())) if len(self.keys) == 1 else None

    async def ask(self, kid):
        """Fetch, or wait for the fetch that is under way; raises Refused when there is no key set at all."""
        await asyncio.shield(self.refresh())
        if self.clock() - self.fetched >= STALE:
            raise Refused("tokens cannot be checked right now", status=503, after=int(AGAIN))
        return self.find(kid)

    def refresh(self):
        """The one fetch under way."""
        if self.fetching is None:
            self.tried = self.clock()
            self.fetching = asyncio.get_running_loop().create_task(self.fetch())
        return self.fetching

    async def fetch(self):
        """One fetch, in a thread: it is rare. An error is logged, and the old keys stay."""
        import jwt

        try:
            text = await asyncio.get_running_loop().run_in_executor(None, self.read)
            found = {}
            for given in json.loads(text)["keys"]:
                if given.get("use", "sig") == "sig":
                    try:
                        found[given.get("kid", "")] = jwt.PyJWK(given)
                    except jwt.PyJWTError:
                        continue  # a kind of key that we do not know; others may be good
            self.keys = found
            self.fetched = self.clock()
        except Exception as error:
            log.warning("the key set %s cannot be read: %s", self.url, error)
        finally:
            self.fetching = None

    def read(self):
        """The bytes at the URL."""
        with urllib.request.urlopen(self.url, timeout=TIMEOUT) as answer:
            text = answer.read(LARGEST + 1)
        if len(text) > LARGEST:
            raise ValueError(f"it is larger than {LARGEST} bytes")
        return text


class Jwt:
    """`keys` is a KeySet, or `secret` a shared secret. `optional`: no token is fine, a wrong one never is."""

    def __init__(self, *, keys=None, secret="", algorithms=("RS256",), issuer="", audience="", optional=False):
        try:
            import jwt
        except ImportError:
            raise ConfigError("the jwt filter needs PyJWT", hint="pip install 'fairlead[jwt]'") from None
        self.jwt = jwt
        self.keys = keys
        self.secret = secret
        self.algorithms = [one for one in algorithms if (one in SYMMETRIC) == bool(secret) and one.lower() != "none"]
        self.issuer = issuer
        self.audience = audience
        self.optional = optional
        self.valid: dict[bytes, tuple] = {}

    def before(self, exchange):
        value = exchange.request.get(b"authorization")
        if value is None or value[:7].lower() != b"bearer ":
            return None if self.optional and value is None else refusal(b"Bearer")
        token = value[7:].strip()
        known = self.valid.get(token)
        if known is not None and time.time() < known[1]:
            exchange.principal = known[0]
            return None
        try:
            header = self.jwt.get_unverified_header(token)
        except self.jwt.PyJWTError as error:
            return invalid(error)
        if self.keys is None:
            return self.check(exchange, token, self.secret)
        key = self.keys.key(header.get("kid", ""))
        if hasattr(key, "__await__"):
            return self.later(exchange, token, key)
        return self.check(exchange, token, key)

    async def later(self, exchange, token, key):
        """The same when the key has to be fetched."""
        return self.check(exchange, token, await key)

    def check(self, exchange, token, key):
        """None when the token holds, else the refusal."""
        if key is None:
            return invalid("nobody knows its key")
        try:
            claims = self.jwt.decode(
                token,
                getattr(key, "key", key),
                algorithms=self.algorithms,
                issuer=self.issuer or None,
                audience=self.audience or None,
                leeway=LEEWAY,
                options={"verify_aud": bool(self.audience)},
            )
        except Exception as error:  # a key of another kind raises what its library likes
            return invalid(error)
        self.remember(token, claims)
        exchange.principal = claims
        return None

    def remember(self, token, claims):
        """Spare the next request of this token the arithmetic."""
        if len(self.valid) >= KEPT:
            self.valid.clear()
        now = time.time()
        self.valid[token] = (claims, min(now + REMEMBER, float(claims.get("exp", now + REMEMBER))))


def invalid(why):
    """401 for a token that does not hold (RFC 6750 section 3.1)."""
    text = "".join(
        [c if " " <= c <= "~" and c not in '"\\' else "'" for c in str(why)[:200]]
    )  # the token's own words may be in it
    told_why = text.encode("ascii")
    return refusal(b'Bearer error="invalid_token", error_description="%b"' % told_why)


def refusal(challenge):
    """401 with its challenge."""
    return told(401, "Unauthorized: this needs a valid bearer token", (b"www-authenticate", challenge))
