"""How much: requests per time (`ratelimit`), requests at once (`concurrency`), bytes of a body (`body`).

Rules
1. A rate is kept as one number per key, the time at which it would next be full again (the generic cell rate algorithm,
   GCRA): no list of requests, no timer. A request may come when that time is no more than a burst ahead.
2. Keys are bounded: when there are too many, those whose time is past go first (they say nothing), then the oldest.
3. Workers count together in words that they share and swap (`SharedBuckets`): the rate holds for all of them, whichever a
   client's connections meet. Two first requests of a client at the very same moment may count apart, once.
4. `concurrency` lets some wait in a queue of its own, in order, with a deadline; over it the answer is 503.
"""

from __future__ import annotations

import asyncio
from collections import deque
from hashlib import blake2b
from ipaddress import IPv6Address

from fairlead.core.errors import Refused
from fairlead.serve.filters import address_of
from fairlead.serve.forwarded import plain_address

SECOND = 1_000_000_000
KEYS = 65536  # clients remembered by one rate limit
PROBES = 8  # places looked at for a key


class Buckets:
    """GCRA for many keys. Times and spans in ns; `take` answers 0 for "come", or how long to wait."""

    def __init__(self, most=KEYS):
        self.most = most
        self.due = {}

    def take(self, key, now, interval, tolerance):
        """One request of `key`: `interval` between two at the rate, `tolerance` that it may be ahead of it."""
        due = self.due.pop(key, 0)
        if due < now:
            due = now
        wait = due - now - tolerance
        if wait > 0:
            self.due[key] = due
            return wait
        if len(self.due) >= self.most:
            self.forget(now)
        self.due[key] = due + interval
        return 0

    def forget(self, now):
        """Make room: what is past says nothing any more; else the oldest sixteenth goes."""
        kept = {key: due for key, due in self.due.items() if due > now}
        if len(kept) >= self.most:
            for key in list(kept)[: self.most // 16]:
                del kept[key]
        self.due = kept


class SharedBuckets:
    """The same in words of shared memory: pairs of a key's hash and its time. `salt` (bytes, the same in all workers) makes
    the places of keys nobody's guess.
    """

    def __init__(self, words, salt):
        self.words = words
        self.salt = salt
        self.places = words.count // 2

    def take(self, key, now, interval, tolerance):
        """As `Buckets.take`."""
        name = blake2b(key.encode("utf-8", "backslashreplace"), digest_size=8, key=self.salt).digest()
        at = self.place(int.from_bytes(name, "big") >> 1 or 1, now)
        while True:
            found = self.words.load(at)
            due = max(found, now)
            wait = due - now - tolerance
            if wait > 0:
                return wait
            if self.words.swap(at, found, due + interval):
                return 0

    def place(self, name, now):
        """The word that holds the time of a key: its own, else one that is free or past, else the one nearest to it."""
        words, first = self.words, name % self.places
        best, best_due = first, None
        for step in range(PROBES):
            place = (first + step) % self.places
            known = words.load(2 * place)
            if known == name:
                return 2 * place + 1
            due = words.load(2 * place + 1) if known else 0
            if best_due is None or due < best_due:
                best, best_due = place, due
        old = words.load(2 * best)
        if words.swap(2 * best, old, name) and best_due > now:
            words.store(2 * best + 1, 0)  # somebody else's time is not this key's
        return 2 * best + 1


class RateLimit:
    """`amount` requests in `seconds`, per `scope`: "client" (address; an IPv6 one by its /64), "principal" (who a
    filter before found it to be, else the address), "listener", or "" for all requests of the route together.

    `burst`: requests that may come at once, 0 for what the rate gives in one second (at least one). `name` tells the limits that
    share `buckets` apart.
    """

    def __init__(self, amount, seconds=1.0, scope="", burst=0, buckets=None, name=""):
        self.interval = max(1, round(seconds * SECOND / amount))
        most = burst or max(1, round(amount / seconds))
        self.tolerance = self.interval * (most - 1)
        self.scope = scope
        self.buckets = buckets if buckets is not None else Buckets()
        self.name = name
        self.policy = f"{amount:g} in {seconds:g} s"

    def key(self, exchange):
        """Whose requests are counted together."""
        if self.scope == "client":
            return network_of(plain_address(address_of(exchange)))
        if self.scope == "listener":
            return exchange.conn.service.name
        if self.scope == "principal":
            who = exchange.principal
            return who.get("sub", "") if isinstance(who, dict) else who or address_of(exchange)
        return ""

    def before(self, exchange):
        wait = self.buckets.take(
            f"{self.name}\n{self.key(exchange)}", exchange.conn.clock.now(), self.interval, self.tolerance
        )
        if wait:
            raise Refused(
                "too many requests", status=429, after=-(-wait // SECOND), hint=f"no more than {self.policy}, please"
            )


def network_of(address):
    """An IPv6 address's /64, since a client has all of it; any other address as it is."""
    if ":" not in address:
        return address
    try:
        return IPv6Address(address.partition("%")[0]).packed[:8].hex(":", 2)
    except ValueError:
        return address


class BodyLimit:
    """Requests with a body of more than `most` bytes get 413: at once when they say so, else as soon as it shows."""

    def __init__(self, most):
        self.most = most

    def before(self, exchange):
        if exchange.request.length > self.most:
            raise Refused(f"the request's body is larger than {self.most} bytes", status=413)
        if not exchange.body_limit or self.most < exchange.body_limit:
            exchange.body_limit = self.most


class Concurrency:
    """At most `most` requests at once; `queue` more may wait up to `patience` ns each."""

    def __init__(self, most, queue=0, patience=SECOND):
        self.most = most
        self.queue = queue
        self.patience = patience
        self.busy = 0
        self.waiting: deque = deque()

    def before(self, exchange):
        if self.busy < self.most and not self.waiting:
            self.enter(exchange)
            return None
        if len(self.waiting) >= self.queue:
            self.waiting = deque([one for one in self.waiting if not one[1].over])  # who left before its first step
        if len(self.waiting) >= self.queue:
            raise Refused(f"{self.most} requests are being answered here already", status=503, after=1)
        turn = asyncio.get_running_loop().create_future()
        self.waiting.append((turn, exchange))
        return self.wait(turn)

    def enter(self, exchange):
        """It is its turn."""
        self.busy += 1
        exchange.ends = (self,) if exchange.ends is None else (*exchange.ends, self)

    async def wait(self, turn):
        """Stand in the queue; raises Refused when it took too long."""
        try:
            await asyncio.wait_for(turn, self.patience / SECOND)
        except TimeoutError:
            raise Refused("waited too long for a turn", status=503, after=1) from None
        finally:
            self.waiting = deque([one for one in self.waiting if one[0] is not turn])

    def over(self, exchange):
        """One is done: the next in the queue that is still there has its turn."""
        self.busy -= 1
        while self.waiting and self.busy < self.most:
            turn, following = self.waiting.popleft()
            if not turn.done() and not following.over:
                self.enter(following)
                turn.set_result(None)
