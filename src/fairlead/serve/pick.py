"""Which of several servers gets the next request. Decisions only: no socket, no clock, no hidden random source.

Every policy is a function of the candidates, their counts, and what the caller drew or remembers, so that a table of
cases tests it. `Picker` keeps what has to be remembered (a turn, a random source, a table) and calls the function.

Rules
1. Weights count everywhere: twice the weight is twice the requests, or twice the work before it looks as busy.
   Weight 0 gets nothing while another candidate has weight.
2. Equally good candidates take turns. Without that, one server gets everything while the load is light.
3. The same key keeps its candidate, and when one candidate goes, only its keys move: rendezvous hashing (Thaler and
   Ravishankar, 1998) or Maglev's table (Eisenbud et al., NSDI 2016; few keys move, a look-up costs one modulo).
4. Peak EWMA (as in Finagle): a slow answer counts at once, quick ones lower the average over `DECAY`; times what
   is in flight. A candidate that was never used has no average and is tried first.
"""
# mypy: disable-error-code="union-attr,assignment"

from __future__ import annotations

from hashlib import blake2b
from math import exp, inf, log
from random import Random

DECAY = 10_000_000_000  # ns until an old latency counts 1/e; Finagle's default window
MASK = (1 << 64) - 1
MAGLEV_SIZES = (251, 503, 1009, 2003, 4001, 8009, 16001, 32003, 65537)
POLICIES = ("round-robin", "weighted", "random", "p2c", "least-requests", "peak-ewma", "hash", "maglev", "first")


class Candidate:
    """What picking knows of one server. `busy`: our requests in flight there; `ewma`: ns, 0 until known."""

    def __init__(self, name, weight=1):
        self.name = name
        self.weight = weight
        self.busy = 0
        self.ewma = 0.0
        self.ewma_at = 0
        self.current = 0
        self.seed = hash_key(name.encode())

    def learn(self, latency, now):
        """One answer took `latency` ns: peaks count at once, everything else fades in."""
        if self.ewma == 0.0 or latency > self.ewma:
            self.ewma = latency
        else:
            keep = exp(-(now - self.ewma_at) / DECAY)
            self.ewma = self.ewma * keep + latency * (1.0 - keep)
        self.ewma_at = now


class Picker:
    """One upstream's way of choosing. `pick` is given at least one candidate; `key` may be b""."""

    def __init__(self, random=None):
        self.random = random if random is not None else Random()
        self.turn = 0

    def pick(self, candidates, key, now):
        """One of the candidates."""
        return candidates[0]


class RoundRobin(Picker):
    """Each in turn; weights by repeating turns smoothly (nginx's way: 5, 1, 1 gives a a b a c a a)."""

    def pick(self, candidates, key, now):
        return smooth(candidates)


class Chance(Picker):
    """A weighted draw."""

    def pick(self, candidates, key, now):
        return weighted_draw(candidates, self.random.random())


class TwoChoices(Picker):
    """The less busy of two that were drawn (Mitzenmacher's power of two choices)."""

    def pick(self, candidates, key, now):
        return two_choices(candidates, self.random.random(), self.random.random())


class LeastRequests(Picker):
    """The least busy, in turn among equals."""

    def pick(self, candidates, key, now):
        self.turn += 1
        return least_requests(candidates, self.turn)


class PeakEwma(Picker):
    """The one of two drawn that is expected to answer sooner."""

    def pick(self, candidates, key, now):
        return peak_ewma(candidates, self.random.random(), self.random.random(), now)


class Hashed(Picker):
    """By key, rendezvous."""

    def pick(self, candidates, key, now):
        return rendezvous(candidates, hash_key(key))


class Maglev(Picker):
    """By key, through a table made anew when the candidates change."""

    def __init__(self, random=None):
        super().__init__(random)
        self.made_of = ()
        self.table = []

    def pick(self, candidates, key, now):
        names = tuple([(c.name, c.weight) for c in candidates])
        if names != self.made_of:
            self.table = maglev_table(names)
            self.made_of = names
        return candidates[self.table[hash_key(key) % len(self.table)]]


PICKERS = {
    "first": Picker,
    "round-robin": RoundRobin,
    "weighted": RoundRobin,
    "random": Chance,
    "p2c": TwoChoices,
    "least-requests": LeastRequests,
    "peak-ewma": PeakEwma,
    "hash": Hashed,
    "maglev": Maglev,
}


def picker(balance, random=None):
    """The Picker of a configured name such as "least-requests" or "hash(ip)"; raises KeyError for an unknown one."""
    return PICKERS[balance.partition("(")[0]](random)


def smooth(candidates):
    """Smooth weighted round-robin: everyone gains its weight, the richest pays the sum."""
    best = None
    total = 0
    for candidate in candidates:
        candidate.current += candidate.weight
        total += candidate.weight
        if best is None or candidate.current > best.current:
            best = candidate
    best.current -= total
    return best


def weighted_draw(candidates, drawn):
    """`drawn` in [0, 1) laid over the weights."""
    total = 0
    for candidate in candidates:
        total += candidate.weight
    if total == 0:
        return candidates[int(drawn * len(candidates))]
    at = drawn * total
    for candidate in candidates:
        at -= candidate.weight
        if at < 0 and candidate.weight:
            return candidate
    return candidates[len(candidates) - 1]


def draw_two(candidates, one, two):
    """Two different candidates by two numbers in [0, 1); with fewer than two, the same twice."""
    n = len(candidates)
    i = int(one * n)
    if n < 2:
        return candidates[i], candidates[i]
    j = int(two * (n - 1))
    if j >= i:
        j += 1
    return candidates[i], candidates[j]


def load(candidate):
    """Requests in flight per weight, this one included."""
    if candidate.weight <= 0:
        return inf
    return (candidate.busy + 1) / candidate.weight


def two_choices(candidates, one, two):
    """The less loaded of two."""
    a, b = draw_two(candidates, one, two)
    return a if load(a) <= load(b) else b


def least_requests(candidates, turn):
    """The least loaded; `turn` rotates the order in which equals are looked at."""
    n = len(candidates)
    start = turn % n
    best = candidates[start]
    least = load(best)
    for k in range(1, n):
        candidate = candidates[(start + k) % n]
        has = load(candidate)
        if has < least:
            best = candidate
            least = has
    return best


def expected(candidate, now):
    """Expected cost in ns: the faded latency times what is in flight, per weight."""
    if candidate.weight <= 0:
        return inf
    faded = candidate.ewma * exp(-(now - candidate.ewma_at) / DECAY) if candidate.ewma else 0.0
    return (faded + 1.0) * (candidate.busy + 1) / candidate.weight


def peak_ewma(candidates, one, two, now):
    """Of two, the one expected to be quicker."""
    a, b = draw_two(candidates, one, two)
    return a if expected(a, now) <= expected(b, now) else b


def hash_key(key):
    """A stable 64-bit hash of bytes: the same in every worker and after a restart."""
    return int.from_bytes(blake2b(key, digest_size=8).digest(), "little")


def mix(a, b):
    """Two 64-bit numbers into one (splitmix64's finaliser)."""
    x = (a ^ (b * 0x9E3779B97F4A7C15)) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def rendezvous(candidates, hashed):
    """Highest random weight: each candidate scores the key, the best score wins; weighted by -w / ln(score)."""
    best = candidates[0]
    top = -1.0
    for candidate in candidates:
        score = (mix(candidate.seed, hashed) + 1) / (MASK + 2)
        value = -candidate.weight / log(score)
        if value > top:
            best = candidate
            top = value
    return best


def maglev_table(names):
    """A look-up table of candidate numbers: each walks its own permutation and takes free places in turn, by weight."""
    size = maglev_size(len(names))
    walks = []
    for name, weight in names:
        skip = hash_key(b"skip:" + name.encode()) % (size - 1) + 1
        walks.append([hash_key(b"offset:" + name.encode()) % size, skip, weight])
    heaviest = max([walk[2] for walk in walks])
    if heaviest == 0:
        for walk in walks:
            walk[2] = 1
        heaviest = 1
    table = [-1] * size
    credit = [0] * len(walks)
    filled = 0
    while True:
        for number, walk in enumerate(walks):
            credit[number] += walk[2]
            if credit[number] < heaviest:
                continue
            credit[number] -= heaviest
            at = walk[0]
            while table[at] >= 0:
                at = (at + walk[1]) % size
            table[at] = number
            walk[0] = (at + walk[1]) % size
            filled += 1
            if filled == size:
                return table


def maglev_size(count):
    """A prime about a hundred times the number of candidates: shares differ by about a hundredth."""
    for size in MAGLEV_SIZES:
        if size >= count * 100:
            return size
    return MAGLEV_SIZES[-1]
