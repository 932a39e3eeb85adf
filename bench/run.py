"""The bench: installs the peers, runs them and Fairlead in turn, prints the table as Markdown.

    python bench/run.py                          everything (about an hour)
    python bench/run.py --quick                  a few seconds per case: shows that it works, figures mean nothing
    python bench/run.py --case 'asgi-*' --peers fairlead,granian --rounds 9
    python bench/run.py --case patterns          Fairlead's execution patterns against each other
    python bench/run.py --case 'h2-*,websocket-*' HTTP/2 and WebSocket
    python bench/run.py --case hop               what the hop of `dispatch` costs
    python bench/run.py --list

A peer that cannot start, or answers wrongly, is reported and skipped; the others go on.
"""

import argparse
import fnmatch
import os
import resource
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import h2
import h3
import install
import measure
import peers
import report
import websocket
import work
from cases import CASES, Case
from install import say
from report import Record

QUICK = work.Effort(rounds=2, seconds=1, idle=200, body=64 * work.MIB, few=20, many=120)


def main() -> int:
    """Read the options, run, print; 1 when a case gave no figure at all."""
    options = arguments()
    if options.case == "patterns":  # one server against itself: has a table and plots of its own
        import patterns

        given = {"--rounds": options.rounds, "--seconds": options.seconds, "--json": options.json}
        words = [str(word) for pair in given.items() if pair[1] for word in pair]
        return patterns.main([*words, *(["--write"] if options.write else [])])
    if options.case == "hop":
        import hop

        given = {"--rounds": options.rounds, "--seconds": options.seconds, "--json": options.json}
        return hop.main([str(word) for pair in given.items() if pair[1] for word in pair])
    if options.case == "lossy":
        import lossy

        given = {"--loads": options.rounds, "--json": options.json}
        words = [str(word) for pair in given.items() if pair[1] for word in pair]
        return lossy.main([*words, *(["--write"] if options.write else [])])
    if options.list:
        print("\n".join(f"{name:16} {case.__doc__}" for name, case in more().items()))
        print("\n".join(f"{case.name:16} {case.title} [{', '.join(case.peers)}]" for case in CASES))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if not options.no_install:
        install.programs()
        install.servers()
    stay_off_the_server_core()
    allow_many_files()
    records = Bench(options).run()
    sections = list(measured(options))
    finish(options, records, sections)
    return 0 if sections or any(record.figures for record in records.all) else 1


def more() -> dict[str, Any]:
    """The cases that are programs of their own."""
    programs = {"h2": h2.CASES, "h3": h3.CASES, "websocket": websocket.CASES}
    return {f"{program}-{name}": case for program, cases in programs.items() for name, case in cases.items()}


def measured(options: argparse.Namespace) -> Iterator[report.Section]:
    """Those that were chosen; each starts what it needs."""
    effort = effort_of(options)
    for name, case in more().items():
        if any(fnmatch.fnmatch(name, pattern) for pattern in options.case.split(",")):
            say(name)
            try:
                yield case(
                    effort.rounds, effort.seconds if name.startswith("web") else 3000 if options.quick else 30000
                )
            except (SystemExit, OSError, peers.CannotStart) as error:
                say(f"  {error}")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description="CPU per request of Fairlead and its peers")
    parser.add_argument("--case", default="*", help="names or patterns, comma-separated (--list shows them)")
    parser.add_argument("--peers", default="", help="only these servers, comma-separated")
    parser.add_argument("--rounds", type=int, help="runs of each server (default 5)")
    parser.add_argument("--seconds", type=float, help="length of one run (default 3)")
    parser.add_argument(
        "--logs", choices=("both", "on", "off"), default="both", help="access logs: on, off, both in turn"
    )
    parser.add_argument("--no-log", dest="logs", action="store_const", const="off", help="the same as --logs off")
    parser.add_argument("--quick", action="store_true", help="short runs that only show that everything works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw figures")
    parser.add_argument("--write", action="store_true", help="write docs/bench.md")
    parser.add_argument("--no-install", action="store_true", help="use what is there")
    parser.add_argument("--list", action="store_true", help="name the cases and stop")
    return parser.parse_args()


def stay_off_the_server_core() -> None:
    """This program shares the load generator's core."""
    if measure.CORES is None:
        say("only one core: server and load generator share it, so the figures mean little")
    else:
        os.sched_setaffinity(0, {measure.CORES[measure.LOAD_CORE]})


def allow_many_files() -> None:
    """Thousands of idle connections need as many descriptors here and in the servers, which inherit the limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def finish(options: argparse.Namespace, records: report.Records, sections: Sequence[report.Section] = ()) -> None:
    """Print and write."""
    effort = effort_of(options)
    words = f"{effort.rounds} rounds of {effort.seconds:g} s."
    if options.quick:
        words += " **A quick run: it shows that the bench works, its figures mean nothing.**"
    facts = install.versions()
    text = "\n".join([report.markdown(records, facts, words), *[section.markdown() for section in sections]])
    print(text)
    if options.json:
        raw = {"facts": facts, "effort": words, "records": [record.plain() for record in records.all]}
        work.dump(raw, options.json)
    if options.write:
        (install.ROOT / "docs" / "bench.md").write_text(text)
        say("wrote docs/bench.md")


def effort_of(options: argparse.Namespace) -> work.Effort:
    """Defaults, quick values, and what the command line says over both."""
    base = QUICK if options.quick else work.Effort()
    rounds, seconds = options.rounds or base.rounds, options.seconds or base.seconds
    return work.Effort(rounds, seconds, base.idle, base.body, base.few, base.many)


class Bench:
    """One run over the chosen cases."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.effort = effort_of(options)
        self.logs = {"both": (True, False), "on": (True,), "off": (False,)}[options.logs]
        self.only = [name for name in options.peers.split(",") if name]
        patterns = options.case.split(",")
        self.cases = [case for case in CASES if any(fnmatch.fnmatch(case.name, pattern) for pattern in patterns)]
        self.records: list[Record] = []

    def run(self) -> report.Records:
        """Every case; what was measured before an interrupt is kept."""
        with suppress(KeyboardInterrupt):
            for case in self.cases:
                say(f"{case.name}: {case.title}")
                with ExitStack() as stack:
                    self.run_case(case, stack)
        return report.Records(self.records)

    def run_case(self, case: Case, stack: ExitStack) -> None:
        """Start all variants, then take them in turn, round by round."""
        origin = self.origin(case, stack)
        if case.measure in work.FRESH:
            return self.run_fresh(case, origin)
        running = [(record, self.start(case, record, origin, stack)) for record in self.variants(case)]
        for _ in range(self.rounds(case)):
            for record, server in running:
                if server:
                    self.sample(case, record, server)

    def run_fresh(self, case: Case, origin: int) -> None:
        """The same with a new server for each sample."""
        records = list(self.variants(case))
        for _ in range(self.rounds(case)):
            for record in records:
                with ExitStack() as stack:
                    if not record.trouble and (server := self.start(case, record, origin, stack)):
                        self.sample(case, record, server)

    def rounds(self, case: Case) -> int:
        """Memory, bodies and counts hardly vary."""
        return self.effort.rounds if case.measure in ("cpu", "connect") else min(self.effort.rounds, 3)

    def origin(self, case: Case, stack: ExitStack) -> int:
        """The port of what the proxies forward to, 0 when nobody does."""
        if case.kind != "proxy":
            return 0
        server = peers.origin("asgi" if case.measure == "body" else "respond")
        stack.callback(server.stop)
        return server.port

    def variants(self, case: Case) -> Iterator[Record]:
        """Peers, plain and TLS, with and without log; neighbours in this order are neighbours in time."""
        logs = self.logs if case.measure in ("cpu", "connect") else (self.logs[0],)
        for log in logs:
            for tls in case.tls:
                for name in self.only_chosen(case):
                    record = Record(case.name, name, tls, log)
                    self.records.append(record)
                    yield record

    def only_chosen(self, case: Case) -> list[str]:
        """The case's peers that the command line did not leave out."""
        return [name for name in case.peers if not self.only or name in self.only]

    def start(self, case: Case, record: Record, origin: int, stack: ExitStack) -> peers.Server | None:
        """A running, checked, warm server, or None with the reason in the record."""
        setup = peers.Setup(case.kind, case.target, record.tls, record.log, origin)
        try:
            server = peers.Server(record.server, setup)
            stack.callback(server.stop)
            if case.measure != "body":
                work.check(case, server)
            if case.measure in ("cpu", "connect"):
                work.load(case, server, min(1, self.effort.seconds))
        except (peers.CannotStart, measure.BadRun, OSError) as error:
            self.trouble(record, error)
            return None
        return server

    def sample(self, case: Case, record: Record, server: peers.Server) -> None:
        """One round of one server."""
        try:
            figures = work.MEASURES[case.measure](case, server, self.effort)
        except (peers.CannotStart, measure.BadRun, OSError) as error:
            return self.trouble(record, error)
        for name, value in figures.items():
            record.figures.setdefault(name, []).append(value)
        shown = ", ".join(f"{name} {value:,.2f}" for name, value in figures.items())
        say(f"  {record.server:24} {'tls  ' if record.tls else 'plain'} {'log   ' if record.log else 'no log'} {shown}")

    def trouble(self, record: Record, error: Exception) -> None:
        """Say it and keep it for the report."""
        say(f"  {record.server:24} {error or type(error).__name__}")
        record.trouble.append(str(error) or type(error).__name__)


if __name__ == "__main__":
    sys.exit(main())
