"""From records to Markdown: one table per case, ratios, and the project's ceilings with what was reached."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

from cases import BODY_GROWTH, CASES, IDLE_CEILINGS, JOURNEY_CEILING, Case
from measure import Spread

OURS = "fairlead"
MIB = 1 << 20


@dataclass
class Record:
    """The figures of one server in one variant of a case, one value per round; `trouble` says what went wrong."""

    case: str
    server: str
    tls: bool
    log: bool
    figures: dict[str, list[float]] = field(default_factory=dict)
    trouble: list[str] = field(default_factory=list)

    def spread(self, figure: str) -> Spread | None:
        """The summary of one figure, None when no round gave it."""
        values = self.figures.get(figure)
        return Spread.of(values) if values else None

    def plain(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


@dataclass
class Section:
    """A table that a program of its own measured (`bench/h2.py`, `bench/websocket.py`): medians, Fairlead's first."""

    title: str
    unit: str
    figures: dict[str, float]
    aim: str

    def markdown(self) -> str:
        """The section with its ratios."""
        ours = next(iter(self.figures.values()))
        rows = [
            [name, f"{value:.2f}", "-" if name.startswith(OURS) else ratio(ours, value)]
            for name, value in self.figures.items()
        ]
        return f"## {self.title}\n\n{table(['', self.unit, 'Fairlead / it'], rows)}\n\nThe aim is {self.aim}.\n"


class Records:
    """All that was measured."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.all = list(records)

    def of(self, case: str) -> list[Record]:
        """The records of a case."""
        return [record for record in self.all if record.case == case]

    def find(self, case: str, server: str, tls: bool = False, log: bool = True) -> Record | None:
        """One record."""
        wanted = (case, server, tls, log)
        return next((r for r in self.all if (r.case, r.server, r.tls, r.log) == wanted), None)

    def median(self, case: str, server: str, figure: str, tls: bool = False, log: bool = True) -> float | None:
        """One median, None when it was not measured."""
        record = self.find(case, server, tls, log)
        spread = record.spread(figure) if record else None
        return spread.median if spread else None


def number(value: float | None) -> str:
    """Two or three digits that mean something."""
    if value is None:
        return "-"
    return f"{value:.1f}" if abs(value) < 100 else f"{value:,.0f}"


def cell(spread: Spread | None) -> str:
    """`median (lowest to highest)`."""
    return "-" if spread is None else f"{number(spread.median)} ({number(spread.low)} to {number(spread.high)})"


def ratio(ours: float | None, theirs: float | None) -> str:
    """Fairlead's figure over the peer's."""
    return f"{ours / theirs:.2f}" if ours and theirs else "-"


def table(header: list[str], rows: list[list[str]]) -> str:
    """Markdown; the first column is text, the others figures."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def servers(records: list[Record]) -> list[str]:
    """Names in the order they were run, once each, those without any figure left out."""
    return list(dict.fromkeys(record.server for record in records if record.figures))


def cost_table(case: Case, records: Records) -> str:
    """CPU per request or connection: a group of columns for each log setting, a column for each of plain and TLS."""
    found = records.of(case.name)
    logs = [log for log in (True, False) if any(r.log == log and r.figures for r in found)]
    header = ["server"] + [title for log in logs for title in cost_titles(case, log)]
    rows = [[name] + [text for log in logs for text in cost_cells(case, records, name, log)] for name in servers(found)]
    return table(header, rows)


def cost_titles(case: Case, log: bool) -> list[str]:
    """The headings of one group."""
    note = "access log" if log else "no log"
    titles: list[str] = []
    for tls in case.tls:
        name = ("TLS, " if tls else "plain, ") + note if len(case.tls) > 1 else note
        titles += [f"{name}: CPU µs", "Fairlead / it"]
        titles += ["per CPU second"] if case.measure == "connect" else []
    return titles + (["TLS adds"] if len(case.tls) > 1 else [])


def cost_cells(case: Case, records: Records, name: str, log: bool) -> list[str]:
    """The figures of one server in one group."""
    cells: list[str] = []
    medians: list[float | None] = []
    for tls in case.tls:
        record = records.find(case.name, name, tls, log)
        spread = record.spread("us") if record else None
        medians.append(spread.median if spread else None)
        cells += [cell(spread), ratio(records.median(case.name, OURS, "us", tls, log), medians[-1])]
        cells += [f"{1e6 / spread.median:,.0f}" if spread else "-"] if case.measure == "connect" else []
    return cells + ([number(difference(medians))] if len(case.tls) > 1 else [])


def difference(medians: list[float | None]) -> float | None:
    """Last less first, where both are known."""
    first, last = medians[0], medians[-1]
    return None if first is None or last is None else last - first


def idle_table(case: Case, records: Records) -> str:
    """KiB per connection."""
    rows = []
    for name in servers(records.of(case.name)):
        row = [name]
        for tls in case.tls:
            record = records.find(case.name, name, tls)
            for figure in ("rss", "pss"):
                spread = record.spread(figure) if record else None
                row.append(number(spread.median / 1024) if spread else "-")
        rows.append(row)
    names = [("TLS" if tls else "plain") for tls in case.tls]
    return table(["server"] + [f"{name}, KiB {kind}" for name in names for kind in ("RSS", "PSS")], rows)


def body_table(case: Case, records: Records) -> str:
    """CPU per GiB, growth in MiB (the worst round)."""
    rows = []
    for name in servers(records.of(case.name)):
        record = records.find(case.name, name)
        row = [name]
        for way in ("down", "up"):
            cpu, growth = (record.spread(f"{way}_{what}") if record else None for what in ("cpu", "growth"))
            row += [f"{cpu.median:.2f}" if cpu else "-", f"{growth.high / MIB:.1f}" if growth else "-"]
        rows.append(row)
    return table(["server", "down: CPU s per GiB", "grows, MiB", "up: CPU s per GiB", "grows, MiB"], rows)


def instruction_table(case: Case, records: Records) -> str:
    """Instructions per request and what the difference means in time."""
    rows = []
    for name in servers(records.of(case.name)):
        count, user = (records.median(case.name, name, what) for what in ("instructions", "user_us"))
        rows.append([name, number(count), number(user)])
    text = table(["server", "instructions per request", "user CPU µs"], rows)
    cost = journey_cost(records)
    return text + (f"\n\nThe journey costs about {cost:.2f} µs of a request." if cost is not None else "")


def journey_cost(records: Records) -> float | None:
    """Its share of the instructions times the user time of a request."""
    with_it = records.median("journey", OURS, "instructions")
    without = records.median("journey", "fairlead-without-journey", "instructions")
    user = records.median("journey", OURS, "user_us")
    return (with_it - without) / with_it * user if with_it and without and user else None


TABLES = {
    "cpu": cost_table,
    "connect": cost_table,
    "idle": idle_table,
    "body": body_table,
    "instructions": instruction_table,
}


@dataclass(frozen=True)
class Verdict:
    """One ceiling and what was reached."""

    what: str
    ceiling: str
    reached: str
    ok: bool


def verdicts(records: Records) -> list[Verdict]:
    """Every ceiling for which there are figures."""
    return [*ratio_verdicts(records), *tls_verdicts(records), *memory_verdicts(records), *journey_verdicts(records)]


def ratio_verdicts(records: Records) -> list[Verdict]:
    """Fairlead's cost over a peer's, with and without access logs."""
    found = []
    for case in CASES:
        for peer, ceiling in case.ceilings.items():
            for log in (True, False):
                ours, theirs = (records.median(case.name, name, "us", log=log) for name in (OURS, peer))
                if ours and theirs:
                    what = f"{case.name}, {'access log' if log else 'no log'}: Fairlead / {peer}"
                    found.append(Verdict(what, f"{ceiling:.2f}", f"{ours / theirs:.2f}", ours / theirs <= ceiling))
    return found


def tls_verdicts(records: Records) -> list[Verdict]:
    """What TLS adds to a request, against what it adds to nginx's fixed answer."""
    limit = tls_adds(records, "respond", "nginx")
    found = []
    for case in ("respond", "asgi-tls"):
        ours = tls_adds(records, case, OURS)
        if limit is not None and ours is not None:
            what = f"{case}: TLS adds, CPU µs (at most what it adds to nginx's `return`)"
            found.append(Verdict(what, number(limit), number(ours), ours <= limit))
    return found


def tls_adds(records: Records, case: str, server: str) -> float | None:
    """CPU microseconds, access log on when both were measured."""
    for log in (True, False):
        added = difference([records.median(case, server, "us", tls, log) for tls in (False, True)])
        if added is not None:
            return added
    return None


def memory_verdicts(records: Records) -> list[Verdict]:
    """Idle connections and large bodies."""
    found = []
    for case in ("idle-asgi", "idle-respond"):
        for name, ceiling in IDLE_CEILINGS.items():
            held = records.median(case, OURS, "pss", tls=name == "tls")
            if held is not None:
                what = f"{case}, {name}: KiB"
                found.append(Verdict(what, number(ceiling / 1024), number(held / 1024), held <= ceiling))
    for case in ("body-asgi", "body-proxy"):
        record = records.find(case, OURS)
        for way in ("down", "up"):
            if record and (growth := record.spread(f"{way}_growth")):
                what, reached = f"{case} {way}: growth, MiB", f"{growth.high / MIB:.1f}"
                found.append(Verdict(what, number(BODY_GROWTH / MIB), reached, growth.high <= BODY_GROWTH))
    return found


def journey_verdicts(records: Records) -> list[Verdict]:
    """The journey's share."""
    cost = journey_cost(records)
    if cost is None:
        return []
    return [Verdict("journey: µs", f"{JOURNEY_CEILING}", f"{cost:.2f}", cost <= JOURNEY_CEILING)]


def markdown(records: Records, facts: dict[str, str], effort: str) -> str:
    """The whole report."""
    parts = ["# What a request costs", ABOUT.strip(), effort]
    parts.append("Measured with: " + ", ".join(f"{name} {value}" for name, value in facts.items()) + ".")
    if found := verdicts(records):
        rows = [[v.what, v.ceiling, v.reached, "yes" if v.ok else "**no**"] for v in found]
        parts += ["## Ceilings", table(["what", "at most", "reached", "kept"], rows)]
    for case in CASES:
        if any(record.figures for record in records.of(case.name)):
            parts += [f"## {case.title} (`{case.name}`)", TABLES[case.measure](case, records)]
    if notes := troubles(records):
        parts += ["## Left out or in trouble", "\n".join(notes)]
    return "\n\n".join(parts) + "\n"


def troubles(records: Records) -> list[str]:
    """What was skipped or failed, said once."""
    said = [(r, text) for r in records.all for text in r.trouble]
    lines = [f"- `{r.case}`, {r.server}{' with TLS' if r.tls else ''}: {text}" for r, text in said]
    return list(dict.fromkeys(lines))


ABOUT = """
Made by `scripts/bench --write`; [bench/README.md](../bench/README.md) says how and under which rules. The figure is CPU
microseconds of the server's whole process tree per request, because wall-clock rates on a shared machine move by a
factor of two within a minute. One worker each, 32 connections, server and load generator on different cores, the
servers taken in turn. Cells are `median (lowest to highest)` of the rounds; "Fairlead / it" below 1 means that Fairlead
is cheaper. Compare ratios, not microseconds: those belong to the machine.
"""
