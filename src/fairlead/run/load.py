"""TOML, environment and flags -> the dataclasses of ``run/config``: every error at once, each with its place.

Rules: a flag is stronger than the environment, the environment than the file, the file than the default. A wrong
value is reported and the default stands in for it, so that the rest can be checked too. Unknown keys are errors with
the nearest known key. Relative paths in a file are relative to that file, those in flags and variables to the working
directory. Nothing is opened but the file itself.
"""

from __future__ import annotations

import dataclasses
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import Field, replace
from typing import Any

from fairlead.core.errors import ConfigError, Problem
from fairlead.run import config as c
from fairlead.run.answers import FILTERS, Filter
from fairlead.run.scan import join, scan
from fairlead.run.setting import Origin, Setting, default_of, settings
from fairlead.run.units import BadValue, Kind, Secret, nearest, quote, what
from fairlead.run.validate import validate

SECTIONS = {
    "server": c.Server,
    "admin": c.Admin,
    "store": c.Store,
    "log": c.Log,
    "journey": c.Journey,
    "metrics": c.Metrics,
    "cache": c.Cache,
}
HOMES = {  # where a key may belong that stands above all tables
    "[server]": c.Server, "[[listener]]": c.Listener, "[[route]]": c.Route, "[[upstream]]": c.Upstream, "[log]": c.Log,
    "[store]": c.Store,
}  # fmt: skip
SHORTS: dict[type, str] = {c.Tls: 'write "dev", or a table with', c.UpstreamTls: "write true, or a table with"}
EACH = {"listener": c.Listener, "app": c.App}  # their variables set every listener, and every application, there is
DEFAULT_BIND = "127.0.0.1:8000"
NOT_BY_VARIABLE = ("app.target", "listener.name")  # what tells them apart
LARGEST_FILE = 4 * 1024 * 1024
WORDS = {"true": True, "on": True, "yes": True, "1": True, "false": False, "off": False, "no": False, "0": False}
FLAGS = {"log.access": "--access-log", "log.level": "--log-level", "server.reload_dirs": "--reload-dir"}
PLACE = re.compile(r"\(at (?:line (\d+), column (\d+)|end of document)\)")
QUOTES = "\u201c\u201d\u201e\u2018\u2019\u00ab\u00bb"
LAST_STEP = re.compile(r'(?:\[\d+\]|\.[^."\[\]]+|\."(?:[^"\\]|\\.)*")$')


def load(path: str, *, env: Mapping[str, str] | None = None, flags: Mapping[str, Any] | None = None) -> c.Config:
    """The configuration of a file; raises ``ConfigError`` whose ``problems`` hold every error found."""
    config, problems = examine(path, env=env, flags=flags)
    return settle(config, problems)


def loads(
    text: str, source: str = "<text>", *, env: Mapping[str, str] | None = None, flags: Mapping[str, Any] | None = None
) -> c.Config:
    """The same for a text; no variables are read unless given."""
    config, problems = examine_text(text, source, env=env or {}, flags=flags)
    return settle(config, problems)


def settle(config: c.Config | None, problems: list[Problem]) -> c.Config:
    """The configuration, or ``ConfigError`` when one of the problems is an error."""
    errors = [problem for problem in problems if problem.severity == "error"]
    if errors or config is None:
        raise ConfigError(problems=errors, hint="correct the file; `fairlead check FILE` lists every error")
    return config


def examine(
    path: str, *, env: Mapping[str, str] | None = None, flags: Mapping[str, Any] | None = None
) -> tuple[c.Config | None, list[Problem]]:
    """(configuration or None, errors and warnings in file order) of a file. Raises nothing for what a file may hold."""
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return None, [Problem(path, 0, "", f"cannot be read: {reason}", "name a readable TOML file")]
    if len(data) > LARGEST_FILE:
        return None, [Problem(path, 0, "", "is larger than 4 MiB", "this is no configuration")]
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return None, [
            Problem(path, line, "", f"is not UTF-8: byte 0x{data[error.start]:02x}", "save the file as UTF-8")
        ]
    return examine_text(text, path, env=env, flags=flags)


def examine_text(
    text: str, source: str, *, env: Mapping[str, str] | None = None, flags: Mapping[str, Any] | None = None
) -> tuple[c.Config | None, list[Problem]]:
    """The same for a text."""
    try:
        data = tomllib.loads(text)
        lines = scan(text)
    except tomllib.TOMLDecodeError as error:
        return None, [syntax_problem(str(error), text, source)]
    except (ValueError, RecursionError) as error:
        reason = "is nested too deeply" if isinstance(error, RecursionError) else f"cannot be read: {error}"
        return None, [Problem(source, 0, "", reason, "see https://toml.io")]
    return build(data, source, lines, os.environ if env is None else env, flags or {})


def syntax_problem(message: str, text: str, source: str) -> Problem:
    """The problem of a TOML syntax error, with its line."""
    place = PLACE.search(message)
    line = int(place[1]) if place and place[1] else text.count("\n") + 1
    says = PLACE.sub("", message).strip()
    rows = text.splitlines()
    meant, hint = misread(says.lower(), rows[line - 1] if line <= len(rows) else "")
    column = f" at column {place[2]}" if place and place[2] else " at the end of the file"
    return Problem(source, line, "", f"not TOML: {meant or says[:1].lower() + says[1:]}{column}", hint)


def misread(says: str, row: str) -> tuple[str, str]:
    """(what is wrong in our words or "", what would be right) of a syntax error, by its message and the line that it is in."""
    key, equals, value = row.partition("=")
    bare = value.split("#")[0].strip()
    if any(char in row for char in QUOTES):
        return "a typographic quote", 'write a plain one: "'
    if "overwrite" in says or "twice" in says or "redefine" in says or "mutate" in says:
        return "a key or table is written a second time", "write it once; [[...]] begins one more of a kind"
    if "illegal character '\\n'" in says or "unterminated" in says:
        return "a string does not end", 'close it with "'
    if bare.count("{") > bare.count("}"):
        return "an inline table does not end on its line", "close it there, or write its keys below a [table] of their own"
    if not equals and re.match(r"\s*[\w-]+:(\s|$)", row):
        return "", f'this is YAML; TOML is written {row.split(":")[0].strip()} = "..." below [[listener]]'
    if row.lstrip().startswith("{"):
        return "", 'this is JSON; TOML begins with [[listener]], then bind = "127.0.0.1:8000"'
    if not equals and re.match(r"\s*(import|from|def|async|class|@)\b", row):
        return "", "this is Python: name the application as module:attribute"
    if equals and bare and not bare.startswith(('"', "'", "[", "{")):
        return "", f'strings need quotes: {key.strip()} = "{bare}"'
    return "", "see https://toml.io"


def build(
    data: dict[str, Any], source: str, lines: Mapping[str, int], env: Mapping[str, str], flags: Mapping[str, Any]
) -> tuple[c.Config, list[Problem]]:
    """(configuration, problems) of plain data, with variables and flags laid over it."""
    reader = Reader(source, lines)
    reader.lay_over(data, env, flags)
    config = reader.table(c.Config, data, "")
    config = replace(config, source=source, sources=reader.sources)
    config = replace(config, listeners=named(config.listeners), routes=tuple(map(decided, config.routes)))
    problems = reader.problems + [problem for problem in validate(config) if not follows(problem, reader.problems)]
    problems.sort(key=lambda problem: (problem.file != source, problem.line))
    return config, list(dict.fromkeys(problems))


def follows(problem: Problem, earlier: list[Problem]) -> bool:
    """Is this only the consequence of a value that could not be read, or of a key that was misspelt?"""
    for cause in filter(lambda one: one.key, earlier):
        if cause.key == problem.key or problem.key.startswith(cause.key + "."):
            return True
        parent = LAST_STEP.sub("", cause.key)
        whole = parent if parent != cause.key else ""
        last = cause.key.rpartition(".")[2]
        if whole == problem.key and (
            cause.message == "is unknown" or last == "mode" or f"no {last}" in problem.message
        ):
            return True
    return False


def named(listeners: tuple[c.Listener, ...]) -> tuple[c.Listener, ...]:
    """Listeners without a name get one by their place."""
    return tuple(one if one.name else replace(one, name=f"listener{place}") for place, one in enumerate(listeners, 1))


def decided(route: c.Route) -> c.Route:
    """``wsgi = "m:a"`` is ``app`` with the interface said."""
    if route.wsgi is None or route.wsgi.interface != "auto":
        return route
    return replace(route, wsgi=replace(route.wsgi, interface="wsgi"))


def variables() -> dict[str, tuple[str, Setting]]:
    """Variable name -> (key path, setting) of everything that the environment can set."""

    def walk(cls: type, path: str) -> Iterator[tuple[str, Setting]]:
        for _, setting, key in settings(cls):
            if setting.table is not None and not setting.many:
                if hasattr(setting.table, "short"):
                    yield f"{path}.{key}", setting
                yield from walk(setting.table, f"{path}.{key}")
            elif setting.kind is not None and f"{path}.{key}" not in NOT_BY_VARIABLE and usable(setting.kind):
                yield f"{path}.{key}", setting

    pairs = (pair for section, cls in {**SECTIONS, **EACH}.items() for pair in walk(cls, section))
    return {"FAIRLEAD_" + path.upper().replace(".", "_"): (path, setting) for path, setting in pairs}


def usable(kind: Kind) -> bool:
    """Can a text mean a value of this kind? Not a mapping."""
    return kind.scalar or kind.name.startswith("list of")


def from_text(kind: Kind, text: str) -> Any:
    """The TOML value that a variable's text means for this kind: itself, a list of what its commas part, a number or a boolean."""
    candidates: list[Any] = [text]
    if not kind.scalar and "," in text:
        candidates.insert(0, [part.strip() for part in text.split(",") if part.strip()])
    if re.fullmatch(r"-?\d{1,15}", text):
        candidates.append(int(text))
    if text.lower() in WORDS:
        candidates.append(WORDS[text.lower()])
    for candidate in candidates:
        try:
            kind.read(candidate)
        except BadValue:
            continue
        return candidate
    return text


def has(cls: type, key: str) -> bool:
    """Is there a setting of this name in a table?"""
    return any(key == name for _, _, name in settings(cls))


class Reader:
    """Builds dataclasses from plain data and notes what is wrong and where every value came from."""

    def __init__(self, source: str, lines: Mapping[str, int]) -> None:
        self.source = source
        self.lines = lines
        self.base = os.path.dirname(source) if lines else ""
        self.problems: list[Problem] = []
        self.sources: dict[str, Origin] = {}
        self.laid: dict[str, Origin] = {}

    def problem(self, path: str, message: str, hint: str = "") -> None:
        origin = self.origin(path)
        name = f"environment variable {origin.name}" if origin.how == "env" else origin.name
        self.problems.append(Problem(name, origin.line, path, message, hint))

    def origin(self, path: str) -> Origin:
        """Where the value at a path is written; a path that is not written itself has the place of what holds it."""
        whole = path
        while path and path not in self.laid and path not in self.lines:
            path = LAST_STEP.sub("", path) if LAST_STEP.search(path) else ""
        if path in self.laid:
            return self.laid[path]
        if not self.lines and whole in self.sources:
            return self.sources[whole]
        return Origin("file", self.source, self.lines.get(path, 0))

    # -- variables and flags --

    def lay_over(self, data: dict[str, Any], env: Mapping[str, str], flags: Mapping[str, Any]) -> None:
        """Put variables, then flags, in place of what the file says."""
        known = variables()
        for name, text in sorted(env.items()):
            if name in known:
                path, setting = known[name]
                value = text if setting.kind is None else from_text(setting.kind, text)
                for place, table, inside in self.places(data, path):
                    self.put(table, inside, value, Origin("env", name), place)
            elif name.startswith(tuple(f"FAIRLEAD_{section.upper()}_" for section in (*SECTIONS, *EACH))):
                meant = nearest(name, list(known))
                hint = f"did you mean {meant}?" if meant else "unset it"
                self.problems.append(Problem(f"environment variable {name}", 0, "", "sets nothing that is known", hint))
        for path, value in flags.items():
            name = FLAGS.get(path) or "--" + path.rpartition(".")[2].replace("_", "-")
            self.put(data, path, value, Origin("flag", name))

    def places(self, data: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any], str]]:
        """(path of a table, the table, path inside it) of everything that a variable's path means."""
        top, _, inside = path.partition(".")
        if top not in EACH:
            yield "", data, path
        for name in ("listener",) if top == "listener" else ("route",):
            rows = data.get(name) if top in EACH else None
            for index, row in enumerate(rows if isinstance(rows, list) else []):
                if not isinstance(row, dict):
                    continue
                if top == "listener" and not self.given(row, inside):
                    yield f"listener[{index}]", row, inside
                for key in ("app", "wsgi") if top == "app" else ():
                    if isinstance(row.get(key), str):
                        row[key] = {"target": row[key]}
                    if isinstance(row.get(key), dict) and not self.given(row[key], inside):
                        yield f"route[{index}].{key}", row[key], inside

    def given(self, table: dict[str, Any], inside: str) -> bool:
        """Did a flag say this already? What there is without a file is from flags, and they are stronger."""
        if self.lines:
            return False
        value: Any = table
        for name in inside.split("."):
            if not isinstance(value, dict) or name not in value:
                return isinstance(value, str)
            value = value[name]
        return True

    def put(self, data: dict[str, Any], path: str, value: Any, origin: Origin, place: str = "") -> None:
        *tables, key = path.split(".")
        for name in tables:
            inner = data.setdefault(name, {})
            if isinstance(inner, str) and name == "tls":
                inner = data[name] = {"mode": inner}
            if not isinstance(inner, dict):
                return  # the wrong shape is reported where it stands
            data = inner
        data[key] = value
        self.laid[f"{place}.{path}" if place else path] = origin

    # -- tables --

    def table(self, cls: type, data: Any, path: str) -> Any:
        """An instance of ``cls``: what is wrong in the data is reported and left at its default."""
        if not isinstance(data, dict):
            data = self.short(cls, data, path)
        known = settings(cls)
        for key in data:
            if not any(key == name or key in setting.aliases for _, setting, name in known):
                self.unknown(join(path, key), key, [name for _, _, name in known])
        return cls(**{f.name: self.field(f, setting, key, data, path) for f, setting, key in known})

    def short(self, cls: type, value: Any, path: str) -> dict[str, Any]:
        """The table that a short form means; an empty one, reported, when there is none."""
        turn = getattr(cls, "short", None)
        turned = turn(value) if turn is not None else None
        if turned is None:
            names = [key for _, _, key in settings(cls)]
            self.problem(
                path,
                f"is {what(value)}",
                f"{SHORTS.get(cls, 'write a table with')} {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}",
            )
            self.sources[path] = self.origin(path)
            return dict.fromkeys(())
        return dict(turned)

    def unknown(self, path: str, key: str, known: list[str]) -> None:
        meant = nearest(key, known)
        if path in ("listeners", "routes", "upstreams"):
            meant = path[:-1]
        hint = f"did you mean {meant}?" if meant else f"known here: {', '.join(known)}"
        home = "" if "." in path or "[" in path or meant else next((name for name in HOMES if has(HOMES[name], key)), "")
        self.problem(path, "is unknown", f"it belongs below {home}" if home else hint)

    def field(self, f: Field[Any], setting: Setting, key: str, data: dict[str, Any], path: str) -> Any:
        """The value of one setting."""
        written = [name for name in (key, *setting.aliases) if name in data]
        if len(written) > 1:
            self.problem(join(path, written[1]), f"is written beside {key}", "write one of them")
        if not written:
            if setting.required:
                kind = setting.kind.name if setting.kind else "a value"
                self.problem(path, f"has no {key}", f"write {key} = ... ({kind}): {setting.doc}")
            return self.placed(default_of(f), setting, "file")
        full = join(path, written[0])
        origin = self.origin(full)
        self.sources[join(path, key)] = origin
        if setting.table is not None:
            return self.held(setting.table, setting.many, data[written[0]], full, default_of(f))
        assert setting.kind is not None
        try:
            return self.placed(setting.kind.read(data[written[0]]), setting, origin.how)
        except BadValue as bad:
            self.problem(full, bad.message, bad.hint)
        return default_of(f)

    def placed(self, value: Any, setting: Setting, how: str) -> Any:
        """Relative paths of the file, made relative to the working directory."""
        if how != "file" or not self.base:
            return value
        if isinstance(value, Secret) and value.source == "file":
            return Secret("file", os.path.join(self.base, value.name))
        if setting.kind is not None and setting.kind.path and value and value not in ("-", "off") and not str(value).startswith("s3://"):
            return os.path.normpath(os.path.join(self.base, value))
        return value

    def held(self, cls: type, many: bool, value: Any, path: str, default: Any) -> Any:
        """A table or a tuple of tables."""
        if not many:
            return self.table(cls, value, path)
        if isinstance(value, str) and hasattr(cls, "short"):
            value = [value]
        if not isinstance(value, list):
            right = (
                f"write [[{path}]]"
                if isinstance(value, dict) and "." not in path
                else f"write an array: {path} = [ ... ]"
            )
            if cls is Filter and isinstance(value, str):
                right = f"write [{quote(value)}]"
            self.problem(path, f"is {what(value)}", right)
            return default
        read = self.filter if cls is Filter else lambda item, place: self.table(cls, item, place)
        items = [read(item, f"{path}[{index}]") for index, item in enumerate(value)]
        self.sources.update((f"{path}[{index}]", self.origin(f"{path}[{index}]")) for index in range(len(items)))
        return tuple(item for item in items if item is not None)

    def filter(self, value: Any, path: str) -> Filter | None:
        """A filter: its name, or a table with its name as the one key."""
        if isinstance(value, str):
            value = {value: {}}
        if not isinstance(value, dict) or len(value) != 1:
            many = isinstance(value, dict) and len(value) > 1
            wrong = f"has {len(value)} keys, {', '.join(value)}" if many else f"is {what(value)}"
            self.problem(path, wrong, 'a filter is a name, "compress", or one name with options, { jwt = { ... } }')
            return None
        name, options = next(iter(value.items()))
        if name not in FILTERS:
            meant = nearest(name, list(FILTERS))
            hint = f"did you mean {meant}?" if meant else f"known filters: {', '.join(FILTERS)}"
            self.problem(path, f"{quote(name)} is unknown", hint)
            return None
        return Filter(
            name=name, options=self.table(FILTERS[name], {} if options is True else options, join(path, name))
        )


def config_from_args(
    target: str,
    bind: str | list[str] = DEFAULT_BIND,
    *,
    workers: int | None = None,
    pattern: str = "",
    unit: str = "",
    tls: str = "",
    interface: str = "",
    factory: bool = False,
    reload: bool = False,
    access_log: str = "",
    server_timing: str = "",
    dir: str = "",
    page: str = "",
    settings: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
) -> c.Config:
    """The configuration that ``fairlead run module:attribute`` means: one listener, one route, the page on loopback.

    ``tls`` is "dev" or ""; ``page`` an address, "off" or "" (on for loopback); ``settings`` more by their key path, which begins
    with a section, ``listener``, ``app`` or ``websocket``. Raises ``ConfigError`` naming the flags.
    """
    given = {"workers": workers, "pattern": pattern, "unit": unit, "reload": reload}
    flags: dict[str, Any] = {f"server.{key}": value for key, value in given.items() if value or (key, value) == ("workers", 0)}
    if access_log:
        flags["log.access"] = access_log
    if server_timing:
        flags["journey.server_timing"] = server_timing
    app: dict[str, Any] = {"target": target, **({"factory": True} if factory else {})}
    app.update({key: value for key, value in (("interface", interface), ("dir", dir)) if value})
    listener: dict[str, Any] = {"name": "web"}
    websocket: dict[str, Any] = {}
    if bind != DEFAULT_BIND:
        listener["bind"] = bind
    if tls and tls != "off":
        listener["tls"] = tls
    for path, value in (settings or {}).items():
        top, *inside, key = path.split(".")
        if top in SECTIONS:
            flags.setdefault(path, value)
            continue
        table = {"listener": listener, "websocket": websocket}.get(top, app)
        for name in inside:
            table = table.setdefault(name, {})
        table.setdefault(key, value) if value != "" else None
    route = {"app": app, "websocket": websocket} if websocket else {"app": app}
    data: dict[str, Any] = {"listener": [listener], "route": [route]}
    config, problems = build_flags(data, flags, os.environ if env is None else env)
    config = settle(config, problems)
    loopback = all(address.is_loopback for address in config.listeners[0].bind)
    if config.admin.page is None and "admin.page" not in config.sources and (page or loopback):
        address = page_address(page) if page != "off" else None
        config = replace(config, admin=replace(config.admin, page=address))
    return config


def page_address(page: str) -> c.u.Address:
    """What `--page` says, or the default; ConfigError when that is no address."""
    try:
        return c.u.read_address(page or "127.0.0.1:9900")
    except BadValue as bad:
        raise ConfigError(f"--page: {bad.message}", hint=f"{bad.hint}, or off") from None


def build_flags(data: dict[str, Any], flags: dict[str, Any], env: Mapping[str, str]) -> tuple[c.Config, list[Problem]]:
    """``build`` for data that came from the command line: problems and origins name the flag."""
    config, problems = build(data, "", {}, env, flags)
    names = {
        "listener[0].bind": "--bind", "listener[0].tls.certificate": "--ssl-certfile", "listener[0].tls.key": "--ssl-keyfile",
        "listener[0].tls.client_ca": "--ssl-ca-certs", "listener[0].tls": "--tls", "route[0].app": "the application",
    }  # fmt: skip

    def told(problem: Problem) -> Problem:
        flag = next(
            (name for path, name in names.items() if problem.key.startswith(path)), problem.file or "the command line"
        )
        return dataclasses.replace(problem, file=flag, key="", line=0)

    sources = {
        path: origin if origin.name else Origin("flag", _flag(path, names)) for path, origin in config.sources.items()
    }
    return replace(config, sources=sources), [told(problem) for problem in problems]


def _flag(path: str, names: Mapping[str, str]) -> str:
    return next((name for start, name in names.items() if path.startswith(start) and name.startswith("--")), "")
