"""Who may do what with a topic, and how much of it: the application's hook, a token's claim, quotas.

    may(action, topic, asker)       action: "read" | "publish" | "manage" (make, delete, groups, webhooks)

Rules
1. Filters of the route come first, and decide for all of it. This decides for each topic, also those that a socket or a stream of
   several topics names later, which no filter sees.
2. A claim (`claim = "topics"`) of the principal that the `jwt` filter found: `{"read": ["orders.*"], "publish": [...], "manage":
   [...]}`, or a list for reading. What it does not name is refused.
3. The hook (`authorize = "module:function"`) is asked after that; it may be async. Its answer holds for `authorize_keep` for who
   shows the same credentials from the same address: a client that polls asks it no more often than one that stays.
4. Who may no longer is told at the next question; a stream or socket ends with the token that opened it (`exp`), and its client
   comes again.
5. Quotas are per client: the principal's `sub` where there is one, else the address (an IPv6 one by its /64). They hold for the
   whole server: followers are counted in all workers (`core.tally`), and so are the rates.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from fairlead.core.errors import Refused
from fairlead.core.tally import Tally
from fairlead.serve.filters import address_of
from fairlead.serve.filters.limits import SECOND, RateLimit, network_of
from fairlead.serve.forwarded import plain_address
from fairlead.serve.topicmatch import pattern
from fairlead.serve.topicwords import fields_of

READ, PUBLISH, MANAGE = "read", "publish", "manage"
KEEP = 60.0  # seconds that the hook's answer holds
KEPT = 10_000  # answers remembered
CLIENTS = 100_000  # clients whose followers are counted in a process


class Asker(NamedTuple):
    """Who asks, as the hook sees it. `headers`: the first of each name, lower case; `principal`: what a filter found, or None."""

    principal: Any
    headers: Mapping[str, str]
    client: str
    path: str
    query: str


Hook = Callable[[str, str, Asker], "bool | Awaitable[bool]"]


def who(exchange: Any) -> str:
    """Whose quotas these are."""
    principal = exchange.principal
    if isinstance(principal, dict):
        principal = principal.get("sub", "")
    return str(principal) if principal else network_of(plain_address(address_of(exchange)))


def until(exchange: Any) -> float | None:
    """Seconds until the token that opened this ends; None when there is no end."""
    principal = exchange.principal
    end = principal.get("exp") if isinstance(principal, dict) else None
    if isinstance(end, bool) or not isinstance(end, int | float):
        return None
    return max(0.0, float(end) - time.time())


class Access:
    """One route's. `followers`: streams, sockets and waiting polls of one client, counted in `tally` under the route's `name`;
    `publishes`, `makes`: rates.
    """

    def __init__(
        self,
        hook: Hook | None = None,
        claim: str = "",
        *,
        keep: float = KEEP,
        followers: int | None = None,
        publishes: RateLimit | None = None,
        makes: RateLimit | None = None,
        clock: Callable[[], float] = time.monotonic,
        tally: Tally | None = None,
        name: str = "",
    ) -> None:
        self.hook, self.claim, self.keep, self.clock = hook, claim, keep, clock
        self.followers, self.publishes, self.makes = followers, publishes, makes
        self.answers: dict[Any, tuple[bool, float]] = {}
        self.tally, self.name = tally or Tally(), name
        self.refused = 0

    async def allows(self, exchange: Any, action: str, topic: str) -> bool:
        """May it?"""
        if self.claim and not self.claimed(exchange.principal, action, topic):
            return False
        if self.hook is None:
            return True
        request = exchange.request
        shown = (request.get(b"authorization"), request.get(b"cookie"), address_of(exchange), repr(exchange.principal))
        key = (action, topic, shown)
        known = self.answers.get(key)
        if known is not None and known[1] > self.clock():
            return known[0]
        client = plain_address(address_of(exchange))
        asker = Asker(exchange.principal, fields_of(request), client, request.path, request.query.decode("latin-1"))
        answer = self.hook(action, topic, asker)
        good = bool(await answer if inspect.isawaitable(answer) else answer)
        if len(self.answers) >= KEPT:
            self.answers.clear()
        self.answers[key] = (good, self.clock() + self.keep)
        return good

    async def must(self, exchange: Any, action: str, topic: str) -> None:
        """Refused 403 when it may not."""
        if not await self.allows(exchange, action, topic):
            self.refused += 1
            raise Refused(f"you may not {action} this topic", status=403)

    def claimed(self, principal: Any, action: str, topic: str) -> bool:
        """Does the token say so?"""
        said = principal.get(self.claim) if isinstance(principal, dict) else None
        if isinstance(said, list):
            said = {READ: said}
        patterns = said.get(action) if isinstance(said, dict) else None
        if not isinstance(patterns, list):
            return False
        return any(isinstance(one, str) and fits(one, topic) for one in patterns)

    # ---- quotas

    def enter(self, exchange: Any) -> Callable[[], None]:
        """One more follower of this client; what it returns says that it is gone. Refused 429."""
        if self.followers is None:
            return nothing
        name = f"{self.name}\n{who(exchange)}"
        full = len(self.tally.counts) >= CLIENTS and name not in self.tally.counts
        if full or self.tally.count(name) >= self.followers:
            self.refused += 1
            raise Refused(f"a client follows at most {self.followers} times at once here", status=429, after=5)
        self.tally.add(name, 1)
        over = False

        def leave() -> None:
            nonlocal over
            if over:
                return
            over = True
            self.tally.add(name, -1)

        return leave

    def publishing(self, exchange: Any, events: int) -> None:
        """So many events are to be appended. Refused 429."""
        self.spend(self.publishes, exchange, max(1, events), "events")

    def making(self, exchange: Any) -> None:
        """A topic is to be made. Refused 429."""
        self.spend(self.makes, exchange, 1, "new topics")

    def spend(self, rate: RateLimit | None, exchange: Any, amount: int, what: str) -> None:
        """So much of a rate."""
        if rate is None:
            return
        now = exchange.conn.clock.now()
        wait = rate.buckets.take(f"{rate.name}\n{who(exchange)}", now, rate.interval * amount, rate.tolerance)
        if wait:
            self.refused += 1
            raise Refused(f"too many {what}", status=429, after=-(-wait // SECOND), hint=f"no more than {rate.policy}, please")


def fits(text: str, topic: str) -> bool:
    """Does a pattern of a claim mean this topic? One that is none means nothing."""
    if text == topic:
        return True
    try:
        return pattern(text).matches(topic)
    except Refused:
        return False


def nothing() -> None:
    """There is no quota."""


OPEN = Access()
