"""``fairlead check FILE`` and ``fairlead explain FILE [URL]``: what a configuration says, before anything is opened.

``check`` prints every problem on its own line (errors, warnings, notices) and ends with 2 when there is an error.
``explain`` prints the effective configuration, defaults included, as TOML that can be read again, with the place each
value came from; with a URL it prints which listener and which route answer, and why each earlier route does not. The
routes are asked through the same table that serves requests, so the two cannot disagree.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from fairlead.core.errors import FairleadError, Problem
from fairlead.run import config as c
from fairlead.run.answers import Filter
from fairlead.run.load import examine
from fairlead.run.plan import refusals
from fairlead.run.scan import join
from fairlead.run.setting import Origin, settings
from fairlead.run.units import quote
from fairlead.serve.table import Match, Table, normalise_path

COMMENT_AT = 56
OTHER_KINDS = ("turn", "forward", "socks5")


def register(subparsers: Any) -> None:
    """Add both commands to the command line."""
    check = subparsers.add_parser(
        "check",
        help="validate a configuration without opening anything",
        epilog="example: fairlead check fairlead.toml",
    )
    check.add_argument("file", help="the configuration file")
    check.add_argument("--json", action="store_true", help="print the problems as JSON")
    check.set_defaults(run=run_check)
    explain = subparsers.add_parser(
        "explain",
        help="the effective configuration, or which route answers a URL",
        epilog="example: fairlead explain fairlead.toml https://shop.example/api/items --method POST",
    )
    explain.add_argument("file", help="the configuration file")
    explain.add_argument("url", nargs="?", help="a URL, or a path: say which route answers it")
    explain.add_argument("--method", default="GET", help="method of the request (default: GET)")
    explain.add_argument(
        "--header",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a header field of the request; may be repeated",
    )
    explain.add_argument("--json", action="store_true", help="print JSON")
    explain.set_defaults(run=run_explain)


# ---- check ----------------------------------------------------------------------------------------------------------


def run_check(args: argparse.Namespace) -> int:
    """``fairlead check``: 0, or 2 when there is an error, which includes what this version cannot serve."""
    config, problems = examine(args.file)
    if config is not None and config.listeners:
        problems = in_order(problems + list(refusals(config)), args.file)
    failed = config is None or any(problem.severity == "error" for problem in problems)
    if args.json:
        print(json.dumps([dataclasses.asdict(problem) for problem in problems], indent=2))
        return 2 if failed else 0
    for problem in problems:
        print(told(problem), file=sys.stderr)
    if not failed and config is not None:
        print(f"{args.file}: good: {summary(config)}")
    return 2 if failed else 0


def in_order(problems: list[Problem], file: str) -> list[Problem]:
    """File order, those from elsewhere last; a key that is wrong already is not refused again."""
    wrong: dict[tuple[str, str], Problem] = {}
    for problem in problems:
        key = problem.key if problem.severity == "error" else f"{problem.severity} {problem.message}"
        wrong.setdefault((problem.file, key), problem)
    return sorted(wrong.values(), key=lambda problem: (problem.file != file, problem.line))


def told(problem: Problem) -> str:
    """A problem in one line; what is not an error says so after its place."""
    if problem.severity == "error":
        return one_line(str(problem))
    bare = dataclasses.replace(problem, key=f"{problem.severity}: {problem.key}".removesuffix(": "))
    return one_line(str(bare))


def one_line(text: str) -> str:
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def summary(config: c.Config) -> str:
    counts = ((len(config.listeners), "listener"), (len(config.routes), "route"), (len(config.upstreams), "upstream"))
    return ", ".join(f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in counts)


# ---- the effective configuration ------------------------------------------------------------------------------------


def run_explain(args: argparse.Namespace) -> int:
    """``fairlead explain``: 2 when the file has errors, 1 when no route answers the URL."""
    config, problems = examine(args.file)
    errors = [problem for problem in problems if problem.severity == "error"]
    if config is None or errors:
        for problem in errors:
            print(told(problem), file=sys.stderr)
        return 2
    if args.url is not None:
        return explain_url(config, args)
    if args.json:
        print(json.dumps(as_json(config), indent=2))
    else:
        print("\n".join(effective(config)))
    return 0


def effective(config: c.Config) -> Iterator[str]:
    """The lines of the whole configuration with the origin of every value."""
    for f, setting, key in settings(c.Config):
        value = getattr(config, f.name)
        assert setting.table is not None
        if not setting.many:
            yield from table_lines(config, value, key, f"[{key}]", key)
            continue
        for index, item in enumerate(value):
            yield from table_lines(config, item, key, f"[[{key}]]", f"{key}[{index}]")


def table_lines(config: c.Config, value: Any, name: str, header: str, path: str) -> Iterator[str]:
    """One table: its header, its values, then the tables in it (TOML wants them last)."""
    yield header
    inner = []
    for f, setting, key in settings(type(value)):
        item = getattr(value, f.name)
        if setting.table is not None:
            inner.append((setting, key, item))
        elif not (item is None and setting.required):
            assert setting.kind is not None
            yield with_comment(f"{key} = {setting.kind.show(item)}", remark(config, join(path, key)))
    yield ""
    for setting, key, item in inner:
        if item is None or (isinstance(value, c.Listener) and key in OTHER_KINDS and key != value.kind):
            continue
        if not setting.many:
            yield from table_lines(config, item, f"{name}.{key}", f"[{name}.{key}]", f"{path}.{key}")
            continue
        for index, one in enumerate(item):
            if isinstance(one, Filter):
                yield from filter_lines(config, one, name, f"{path}.{key}[{index}]")
            else:
                yield from table_lines(config, one, f"{name}.{key}", f"[[{name}.{key}]]", f"{path}.{key}[{index}]")


def filter_lines(config: c.Config, one: Filter, name: str, path: str) -> Iterator[str]:
    yield f"[[{name}.filter]]"
    inner = f"{name}.filter.{one.name}"
    yield from table_lines(config, one.options, inner, f"[{inner}]", f"{path}.{one.name}")


def with_comment(text: str, comment: str) -> str:
    return f"{text.ljust(COMMENT_AT)}  # {comment}"


def origin_of(config: c.Config, path: str) -> Origin:
    """The origin of a value; filters may be written under either of two keys."""
    origin = config.origin(path)
    return origin if origin.how != "default" else config.origin(path.replace(".filters[", ".filter["))


def remark(config: c.Config, path: str) -> str:
    """Where a value came from, and what `auto` comes to."""
    origin = str(origin_of(config, path))
    if path == "server.pattern" and config.server.pattern == "auto":
        return f"{origin}; here {config.server.auto_pattern[0]}: {config.server.auto_pattern[1]}"
    if path == "server.unit" and config.server.unit == "thread":
        turns = getattr(sys, "_is_gil_enabled", lambda: True)()
        return f"{origin}; this Python's threads {'take turns (GIL)' if turns else 'run at once'}"
    if path == "server.workers" and config.server.workers is None:
        return f"{origin}; here {config.server.worker_count}"
    return origin


def as_json(value: Any, config: c.Config | None = None, path: str = "") -> Any:
    """The configuration as plain data: each setting is ``{"value": ..., "origin": ...}``."""
    root = config or value
    out: dict[str, Any] = {}
    for f, setting, key in settings(type(value)):
        item, where = getattr(value, f.name), join(path, key)
        if setting.table is None:
            out[key] = {"value": plain(item), "origin": str(origin_of(root, where))}
        elif item is None:
            out[key] = None
        elif not setting.many:
            out[key] = as_json(item, root, where)
        elif setting.table is Filter:
            out[key] = [
                {one.name: as_json(one.options, root, f"{where}[{i}].{one.name}")} for i, one in enumerate(item)
            ]
        else:
            out[key] = [as_json(one, root, f"{where}[{i}]") for i, one in enumerate(item)]
    return out


def plain(value: Any) -> Any:
    """A value as JSON knows it; durations are seconds, sizes bytes."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return str(value)


# ---- which route ----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Asked:
    """A request as the table sees it."""

    method: str
    scheme: str
    host: str
    port: int
    path: str
    headers: list[tuple[bytes, bytes]]


def asked(url: str, method: str, headers: list[str]) -> Asked:
    """The request that a URL or a path means; raises ValueError or ``BadPath``."""
    if "://" not in url:
        url = url if url.startswith("/") else f"//{url}"
    parts = urlsplit(url)
    if parts.scheme not in ("", "http", "https"):
        raise ValueError(f"{parts.scheme} is not a scheme of HTTP; write https://host/path")
    pairs = []
    for header in headers:
        name, equals, value = header.partition("=")
        if not equals:
            raise ValueError(f"--header {header} has no value; write --header name=value")
        pairs.append((name.strip().lower().encode(), value.strip().encode()))
    default = {"http": 80, "https": 443}.get(parts.scheme, 0)
    path = normalise_path((parts.path or "/").encode())[0].decode()
    return Asked(method, parts.scheme, parts.hostname or "", parts.port or default, path, pairs)


def candidates(config: c.Config, request: Asked) -> tuple[list[c.Listener], str]:
    """The listeners that may get the request, and a remark when that is a guess."""
    http = [one for one in config.listeners if one.kind == "http"]
    if not request.port:
        return http, ""
    fitting = [one for one in http if not request.scheme or (one.tls is not None) == (request.scheme == "https")]
    bound = [one for one in fitting if any(address.port == request.port for address in one.bind)]
    if bound:
        return bound, ""
    return (
        fitting,
        f"no listener is bound to port {request.port} for {request.scheme or 'http'}; as if something led there:",
    )


def explain_url(config: c.Config, args: argparse.Namespace) -> int:
    """Print which listener and route answer; 1 when none does, 2 for a URL that is none."""
    try:
        request = asked(args.url, args.method, args.header)
    except (ValueError, FairleadError) as error:
        print(f"{one_line(args.url)}: {error}", file=sys.stderr)
        return 2
    listeners, guess = candidates(config, request)
    answers = [answer(config, one, request) for one in listeners]
    if args.json:
        print(json.dumps({"request": f"{request.method} {args.url}", "remark": guess, "listeners": answers}, indent=2))
    else:
        print("\n".join(url_lines(request, guess, answers)))
    return 0 if answers and all(one["status"] == 0 for one in answers) else 1


def answer(config: c.Config, listener: c.Listener, request: Asked) -> dict[str, Any]:
    """What one listener does with the request: every route tried, and the one that answers."""
    table = Table(config.routes)
    match = table.find(listener.name, request.host, request.path, request.method, request.headers)
    tried = []
    for entry in table.entries:
        route, place = config.routes[entry.index], str(config.origin(f"route[{entry.index}]"))
        taken = match is not None and match.route is route
        why = entry.why_not(listener.name, request.host, request.path, request.method, request.headers)
        tried.append(
            {
                "route": entry.index + 1,
                "place": place,
                "answer": described(route),
                "why": "answers" if taken else reason(why, route, request),
            }
        )
        if taken:
            break
    place = str(config.origin(f"listener[{config.listeners.index(listener)}]"))
    out = {
        "listener": listener.name,
        "place": place,
        "tls": listener.tls is not None,
        "bind": [str(one) for one in listener.bind],
        "tried": tried,
    }
    return out | outcome(config, match)


def reason(why: str, route: c.Route, request: Asked) -> str:
    if why == "method":
        return f"method {request.method} is not {', '.join(route.methods)}"
    return why or "an earlier route chose this path for other methods"


def outcome(config: c.Config, match: Match | None) -> dict[str, Any]:
    if match is None:
        return {"status": 404, "says": "404: no route has this path"}
    if match.route is None:
        return {
            "status": 405,
            "says": f"405: the path is there, the method is not; Allow: {', '.join(match.allow)}",
            "allow": list(match.allow),
        }
    names = [one.name for one in match.route.filters]
    return {
        "status": 0,
        "says": f"route {match.index + 1} answers: {described(match.route)}",
        "route": match.index + 1,
        "params": dict(match.params),
        "filters": names,
    }


def described(route: c.Route) -> str:
    """A route's answer in a few words."""
    name = route.answer
    value = getattr(route, name)
    first = {
        "app": "target",
        "wsgi": "target",
        "grpc": "target",
        "files": "dir",
        "job": "run",
        "upload": "dir",
        "redirect": "to",
    }
    if name == "proxy":
        return f"proxy to {value.upstream or ' | '.join(f'{to} ({weight})' for to, weight in value.split.items())}"
    if name == "respond":
        return f"respond {value.status}"
    return f"{name} {getattr(value, first[name])}" if name in first else name


def url_lines(request: Asked, guess: str, answers: list[dict[str, Any]]) -> Iterator[str]:
    yield f"{request.method} {request.path}" + (f" on host {quote(request.host)}" if request.host else "")
    if guess:
        yield guess
    if not answers:
        yield "no listener speaks HTTP here"
    for one in answers:
        yield f"listener {one['listener']} ({one['place']}): {', '.join(one['bind'])}{', TLS' if one['tls'] else ''}"
        for tried in one["tried"]:
            sign = "->" if tried["why"] == "answers" else "  "
            yield f"  {sign} route {tried['route']} ({tried['place']}, {tried['answer']}): {tried['why']}"
        yield f"  {one['says']}"
        if one.get("params"):
            yield "     with " + ", ".join(f"{name} = {quote(value)}" for name, value in one["params"].items())
        if one.get("filters"):
            yield f"     through {', '.join(one['filters'])}"
