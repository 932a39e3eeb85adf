"""`fairlead job submit | status | wait | cancel | redrive | workers`: jobs from a shell.

    fairlead job submit http://127.0.0.1:8000/jobs/reports '{"month": "May"}'      the job's URL, at once
    fairlead job wait http://127.0.0.1:8000/jobs/reports/c815c01e                  its result, when it is over
    fairlead job workers fairlead.toml --workers 4                                 processes that only work

Rules
1. A URL is spoken to by HTTP, as any client would: what may be done there is for the route's filters to say. `status` without a
   URL and `redrive KIND` are an operator's: they go to the admin socket, as `fairlead status` does.
2. Exit code 0: done; for `wait`, the job succeeded. 1: it could not be done, the job failed, was cancelled, or is not over in time.
   2: the command is wrong.
3. `workers` runs the jobs of a configuration without its listeners. An embedded store belongs to one process: when a server
   keeps it already, the workers reach it through that server, and look for it again when it comes back; else they keep it.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import ssl
import sys
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from fairlead.core.errors import ConfigError, FairleadError, NetError

LONGEST = 25.0  # seconds of one long poll
PATIENCE = 30.0  # seconds beyond it that an answer may take
EXAMPLES = """examples:
  fairlead job submit http://127.0.0.1:8000/jobs/reports '{"month": "May"}' --wait 10s
  fairlead job status http://127.0.0.1:8000/jobs/reports/c815c01e
  fairlead job wait http://127.0.0.1:8000/jobs/reports/c815c01e --timeout 10m
  fairlead job cancel http://127.0.0.1:8000/jobs/reports/c815c01e
  fairlead job redrive reports.tasks:build
  fairlead job workers fairlead.toml --workers 4
"""


def register(subparsers: Any) -> None:
    """Add `job` to the command line."""
    top = subparsers.add_parser("job", help="submit jobs, look at them, work on them", epilog=EXAMPLES)
    words = top.add_subparsers(metavar="WORD", required=True)
    submit = over_http(words, "submit", "ask for a job", submit_, "the job route, as http://127.0.0.1:8000/jobs/reports")
    submit.add_argument("arguments", nargs="?", default="", help="its arguments as JSON; - reads standard input")
    submit.add_argument("--wait", default="", metavar="TIME", help="wait for the outcome so long, as 10s")
    submit.add_argument("--delay", default="", metavar="TIME", help="not before so long")
    submit.add_argument("--unique", default="", metavar="TEXT", help="while one with this text is there, that one")
    submit.add_argument("--webhook", default="", metavar="URL", help="have the outcome posted there")
    submit.add_argument("--key", default="", metavar="KEY", help="Idempotency-Key: sent again it is the same job")
    where = "the job's URL, as `submit` printed it"
    status = over_http(words, "status", "how a job is; without a URL, all kinds", status_, where, "?")
    operator(status)
    wait = over_http(words, "wait", "wait until a job is over, and print its result", wait_, where)
    wait.add_argument("--timeout", default="1h", metavar="TIME", help="give up after so long (default: 1h)")
    over_http(words, "cancel", "a job is wanted no more", cancel_, where)
    redrive = over_http(
        words, "redrive", "run failed jobs again", redrive_, "the job's URL; or a kind: all of its dead letters, or those named"
    )
    redrive.add_argument("ids", nargs="*", help="with a kind: only these jobs")
    operator(redrive)
    workers = words.add_parser("workers", help="processes that work on jobs and serve nobody", epilog=EXAMPLES)
    workers.add_argument("target", nargs="+", help="a configuration file, or modules that define jobs (with --store)")
    workers.add_argument("--workers", "-w", type=int, metavar="N", help="how many (default: [jobs] workers, else one per core)")
    workers.add_argument("--store", default="", metavar="URL", help="the store, in place of the configuration's")
    workers.add_argument("--dir", default="", metavar="DIR", help="directory to import modules from (default: this one)")
    for one in words.choices.values():
        one.formatter_class = argparse.RawDescriptionHelpFormatter
        one.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    workers.set_defaults(run=workers_)


def over_http(words: Any, name: str, text: str, run: Any, what: str, nargs: Any = None) -> Any:
    """A command about a URL."""
    parser = words.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", epilog=EXAMPLES)
    parser.add_argument("url", metavar="URL", help=what, **({"nargs": nargs} if nargs else {}))
    parser.add_argument("--header", "-H", action="append", default=[], metavar="FIELD", help="as 'Authorization: Bearer …'")
    parser.add_argument("--ca", default="", metavar="FILE", help="CA of the server's certificate (PEM)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)
    return parser


def operator(parser: Any) -> None:
    """Options of what goes to the admin."""
    parser.add_argument("--admin", metavar="URL", help="unix:/path or http://host:port (default: as `fairlead status`)")
    parser.add_argument("--token", default="", help="the token printed at start, where the admin is on TCP")


# ---- the commands


def submit_(args: argparse.Namespace) -> int:
    """`fairlead job submit`."""
    body = sys.stdin.read() if args.arguments == "-" else args.arguments
    headers = {"content-type": "application/json"} if body else {}
    for name, value in (("fairlead-unique", args.unique), ("fairlead-webhook", args.webhook)):
        if value:
            headers[name] = value
    if args.delay:
        headers["fairlead-delay"] = f"{seconds(args.delay, '--delay'):.0f}"
    if args.key:
        headers["idempotency-key"] = json.dumps(args.key)
    wait = seconds(args.wait, "--wait") if args.wait else 0.0
    if wait:
        headers["prefer"] = f"wait={wait:.0f}"
    got = ask(args, "POST", args.url, headers, body.encode(), wait)
    if got.status == 202:
        where = urljoin(args.url, got.headers.get("location", ""))
        print(json.dumps({**got.json, "url": where}, indent=2) if args.json else where)
        return 0
    return outcome(got)


def status_(args: argparse.Namespace) -> int:
    """`fairlead job status`."""
    if args.url is None:
        return overview(args)
    got = fine(ask(args, "GET", args.url))
    print(json.dumps(got.json, indent=2) if args.json else "\n".join(lines_of(got.json)))
    return 0


def wait_(args: argparse.Namespace) -> int:
    """`fairlead job wait`."""
    ends = time.monotonic() + seconds(args.timeout, "--timeout")
    known, row = "", {}
    while True:
        left = max(0.0, min(LONGEST, ends - time.monotonic()))
        headers = {"prefer": f"wait={left:.0f}"} | ({"if-none-match": known} if known else {})
        got = ask(args, "GET", args.url, headers, wait=left)
        if got.status != 304:
            row, known = fine(got).json, got.headers.get("etag", "")
        if row.get("state") in ("succeeded", "failed", "cancelled"):
            return outcome(ask(args, "GET", args.url.rstrip("/") + "/result"))
        if time.monotonic() >= ends:
            raise FairleadError(f"the job is {row.get('state')} after {args.timeout}", hint="it goes on; wait again")


def cancel_(args: argparse.Namespace) -> int:
    """`fairlead job cancel`."""
    got = fine(ask(args, "DELETE", args.url))
    text = "cancelled" if got.status == 200 else "told to end"
    print(json.dumps(got.json, indent=2) if args.json else text)
    return 0


def redrive_(args: argparse.Namespace) -> int:
    """`fairlead job redrive`."""
    if args.url.startswith(("http://", "https://")):
        got = fine(ask(args, "POST", args.url.rstrip("/") + "/redrive"))
        print(json.dumps(got.json, indent=2) if args.json else "queued again")
        return 0
    from fairlead.run import client

    where, count = client.one(args), 0
    for name in args.ids or [""]:
        path = f"/api/jobs/redrive?kind={quote(args.url, safe='')}&id={quote(name, safe='')}"
        count += client.ask(where, "POST", path, args)["count"]
    print(json.dumps({"count": count}) if args.json else f"{count} queued again")
    return 0


def overview(args: argparse.Namespace) -> int:
    """`fairlead job status` of everything."""
    from fairlead.run import client

    found = client.ask(client.one(args), "GET", "/api/jobs", args)
    if args.json:
        print(json.dumps(found, indent=2))
        return 0
    print(f"{'kind':<40} {'ready':>7} {'delayed':>8} {'running':>8} {'dead':>6} {'done':>8}")
    for one in found["kinds"]:
        print(f"{one['kind']:<40} {one['ready']:>7} {one['delayed']:>8} {one['leased']:>8} {one['dead']:>6} {one['done']:>8}")
    for one in found["cron"]:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one["next"]))
        print(f"next {one['kind']}: {at}  ({one['cron']} {one['zone']})")
    return 0


def workers_(args: argparse.Namespace) -> int:
    """`fairlead job workers`."""
    from fairlead.run import jobalone

    return jobalone.run(args)


# ---- for people


def lines_of(row: dict[str, Any]) -> list[str]:
    """A job in lines."""
    lines = [f"{row['state']}   attempt {row['attempt']}   {row['kind']} {row['id']}"]
    for name in ("created", "started", "finished", "due"):
        if name in row:
            lines.append(f"  {name:<9} {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(row[name]))}")
    for name in ("progress", "result"):
        if name in row:
            lines.append(f"  {name:<9} {json.dumps(row[name])}")
    if row.get("error"):
        lines.append(f"  error     {row['error']}")
    return lines


def outcome(got: Got) -> int:
    """A result, printed; or an error that says why there is none."""
    if got.status < 300:
        print(got.text.rstrip("\n"))
        return 0
    problem = got.problem()
    raise FairleadError(problem["title"] + (f": {problem['detail']}" if problem.get("detail") else ""))


def seconds(text: str, option: str) -> float:
    """A duration. ConfigError."""
    from fairlead.run import units as u

    try:
        return float(u.DURATION.read(text))
    except u.BadValue as bad:
        raise ConfigError(f"{option}: {bad.message}", hint=bad.hint) from None


# ---- asking


@dataclass
class Got:
    """An answer."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        """Its body. FairleadError when that is no job's."""
        try:
            found = json.loads(self.text)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise FairleadError("the answer is no job's", hint="is this the URL of a job route?")
        return found

    def problem(self) -> dict[str, Any]:
        """What went wrong."""
        try:
            found = json.loads(self.text)
            if isinstance(found, dict) and "title" in found:
                return found
        except ValueError:
            pass
        return {"title": f"the server answered {self.status}", "detail": self.text.strip()[:200]}


def fine(got: Got) -> Got:
    """The answer, when it is one. FairleadError."""
    if got.status >= 300:
        problem = got.problem()
        raise FairleadError(problem["title"], hint=problem.get("detail", ""))
    return got


def ask(
    args: argparse.Namespace, method: str, url: str, headers: dict[str, str] | None = None, body: bytes = b"", wait: float = 0.0
) -> Got:
    """One request. ConfigError for what is no URL, NetError when nobody answers."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f'"{url}" is no URL of a server', hint="write http://127.0.0.1:8000/jobs/reports")
    fields = dict(headers or {})
    for line in args.header:
        name, colon, value = line.partition(":")
        if not colon:
            raise ConfigError(f'--header: "{line}" has no colon', hint="write 'Authorization: Bearer …'")
        fields[name.strip()] = value.strip()
    made = dial(parts, args.ca, wait + PATIENCE)
    try:
        made.request(method, parts.path + (f"?{parts.query}" if parts.query else ""), body=body or None, headers=fields)
        answer = made.getresponse()
        text = answer.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or type(error).__name__
        raise NetError(
            f"the server at {parts.scheme}://{parts.netloc} does not answer: {reason}", step="dial", side="us",
            hint="is it running?",
        ) from None  # fmt: skip
    finally:
        made.close()
    return Got(answer.status, {name.lower(): value for name, value in answer.getheaders()}, text)


def dial(parts: Any, ca: str, timeout: float) -> http.client.HTTPConnection:
    """A connection, not open yet. The development CA is trusted on loopback."""
    if parts.scheme == "http":
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
    if not ca and parts.hostname in ("localhost", "127.0.0.1", "::1"):
        from fairlead.net.certs import dev_ca

        ca = str(dev_ca().ca_path)
    try:
        context = ssl.create_default_context(cafile=ca or None)
    except OSError as error:
        raise ConfigError(f"--ca: cannot read {ca}: {os.strerror(error.errno or 0)}") from None
    return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout, context=context)
