"""How the parts of a configuration fit together: references, contradictions, and what can never happen.

Pure: looks at the dataclasses and at whether named files exist; opens and resolves nothing. An *error* stops the
start, a *warning* is probably not meant, a *notice* is worth knowing. ``fairlead check`` prints all three.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence

from fairlead.core.errors import Problem
from fairlead.run import config as c
from fairlead.run.answers import Filter, SessionFilter
from fairlead.run.units import Address, nearest, quote
from fairlead.serve.filters.coding import available
from fairlead.serve.table import Entry, parse_path

LEASE = 1.0  # seconds: the shortest lease of presence
UNIX_MOST = 107  # sun_path has 108 bytes and ends with a NUL (unix(7))
STANDARD = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
OTHERS = re.compile(r":(\w+)|<(?:\w+:)?(\w+)>")  # parameters as other programs write them
FILLED = re.compile(r"\{([^{}]*)\}")
TCP_KINDS = ("http", "tcp", "forward", "socks5", "turn")
UDP_KINDS = ("udp", "turn")


def validate(config: c.Config) -> list[Problem]:
    """Every error, warning and notice that only shows when the tables are seen together."""
    checker = Checker(config)
    checker.server()
    checker.names("listener", [listener.name for listener in config.listeners])
    checker.names("upstream", [upstream.name for upstream in config.upstreams])
    for index, listener in enumerate(config.listeners):
        checker.listener(listener, f"listener[{index}]")
    for index, upstream in enumerate(config.upstreams):
        checker.upstream(upstream, f"upstream[{index}]")
    for index, route in enumerate(config.routes):
        checker.route(route, f"route[{index}]")
    checker.addresses()
    checker.shadowed()
    checker.whole()
    return checker.problems


class Checker:
    """Collects problems with their places."""

    def __init__(self, config: c.Config) -> None:
        self.config = config
        self.problems: list[Problem] = []
        self.used: set[str] = set()
        self.listeners = {listener.name: listener for listener in config.listeners}
        self.upstreams = [upstream.name for upstream in config.upstreams if upstream.name]

    def say(self, path: str, message: str, hint: str = "", severity: str = "error") -> None:
        origin = self.config.origin(path)
        at = path
        while not origin.name and "." in at:
            at = at.rpartition(".")[0]
            origin = self.config.origin(at)
        file = origin.name or self.config.source
        self.problems.append(Problem(file, origin.line, path, message, hint, severity))

    def refers(self, path: str, name: str, known: Iterable[str], noun: str) -> bool:
        """A name that must be one of the known ones."""
        known = [one for one in known if one]
        if name in known:
            return True
        meant = nearest(name, known)
        right = f"did you mean {quote(meant)}?" if meant else f"add [[{noun}]] with name = {quote(name)}"
        if noun == "upstream" and ("/" in name or ":" in name):
            right = f'name one: [[upstream]] with name = "web" and servers = [{quote(name.rpartition("//")[2].partition("/")[0])}]'
        self.say(path, f"there is no {noun} {quote(name)}", right)
        return False

    def uses(self, path: str, name: str) -> None:
        self.used.add(name)
        self.refers(path, name, self.upstreams, "upstream")

    def exists(self, path: str, file: str, severity: str = "error", directory: bool = False) -> None:
        if not file:
            return
        if not (os.path.isdir(file) if directory else os.path.isfile(file)):
            self.say(
                path, f"{file} does not exist", f"name a {'directory' if directory else 'PEM file'} that does", severity
            )
        elif not os.access(file, os.R_OK):
            self.say(path, f"{file} cannot be read", "check its owner and mode", severity)

    # -- [server] --

    def server(self) -> None:
        server = self.config.server
        if server.pattern == "single" and server.workers not in (None, 1):
            right = 'write workers = 1, or pattern = "reuseport"'
            self.say("server.workers", f'pattern "single" has exactly one worker, not {server.workers}', right)
        if server.sticky and server.pattern != "dispatch":
            self.say(
                "server.sticky",
                f"sticky placement is in dispatch only: in {server.pattern} a client's next connection goes anywhere",
                'write pattern = "dispatch", or keep sessions where every worker finds them',
            )
        if server.fronts != 1 and server.pattern != "dispatch":
            self.say("server.fronts", 'fronts belong to pattern "dispatch"', 'remove it, or write pattern = "dispatch"')
        for folder in server.reload_dirs:
            self.exists("server.reload_dirs", folder, "warning", True)
        page = self.config.admin.page
        if page is not None and page.is_unix:
            self.say("admin.page", "is a unix socket, which no browser opens", 'write "127.0.0.1:9900"')
        elif page is not None and not page.is_loopback:
            self.say(
                "admin.page", f"the page is public: {page}", "anybody who reaches it sees every request", "warning"
            )
        if isinstance(self.config.admin.bind, Address):
            self.unix("admin.bind", self.config.admin.bind)

    def names(self, noun: str, names: Sequence[str]) -> None:
        for index, name in enumerate(names):
            if name and name in names[:index]:
                first = names.index(name)
                place = self.config.origin(f"{noun}[{first}].name")
                self.say(
                    f"{noun}[{index}].name",
                    f"{quote(name)} is the name of another {noun} ({place})",
                    "give each its own name",
                )

    # -- [[listener]] --

    def listener(self, one: c.Listener, path: str) -> None:
        if not one.bind:
            self.say(f"{path}.bind", "is empty", 'write "127.0.0.1:8000"')
        for address in one.bind:
            self.unix(f"{path}.bind", address)
        public = [str(address) for address in one.bind if not address.is_loopback]
        if public:
            self.say(f"{path}.bind", f"listener {quote(one.name)} is public: {', '.join(public)}", severity="notice")
        self.kind_options(one, path)
        if one.kind == "http":
            self.http(one, path)
        if one.tls is not None:
            self.tls(one.tls, f"{path}.tls")
        low, high = (int(port) for port in one.turn.relay.split("-"))
        if not 0 < low <= high <= 65535:
            self.say(f"{path}.turn.relay", f"{one.turn.relay} is no range of ports", 'write "49152-65535"')

    def unix(self, path: str, address: Address) -> None:
        if len(os.fsencode(address.path)) > UNIX_MOST:
            size = len(os.fsencode(address.path))
            self.say(
                path,
                f"the unix path has {size} bytes, and {UNIX_MOST} is the most",
                "use a shorter directory, such as /run",
            )

    def kind_options(self, one: c.Listener, path: str) -> None:
        """Options that belong to another kind of listener, and those that this kind needs."""
        for kind, options, default in (
            ("turn", one.turn, c.Turn()),
            ("forward", one.forward, c.Forward()),
            ("socks5", one.socks5, c.Socks5()),
        ):
            if one.kind != kind and options != default:
                self.say(
                    f"{path}.{kind}",
                    f"belongs to kind = {quote(kind)}, and this is {quote(one.kind)}",
                    f"remove it, or write kind = {quote(kind)}",
                )
        layer4 = one.kind in ("tcp", "udp")
        if layer4 and not one.upstream and not (one.kind == "tcp" and one.sni):
            self.say(path, f"kind {quote(one.kind)} has no upstream", 'write upstream = "name of an [[upstream]]"')
        for key, value in (("upstream", one.upstream), ("sni", one.sni)):
            if value and (not layer4 or (key == "sni" and one.kind == "udp")):
                self.say(
                    f"{path}.{key}",
                    f"belongs to layer 4, and this is {quote(one.kind)}",
                    "for HTTP write a [[route]] with proxy",
                )
        if one.mode == "nat" and not layer4:
            self.say(
                f"{path}.mode", f'"nat" belongs to kind "tcp" or "udp", and this is {quote(one.kind)}', "remove it"
            )
        if layer4 and one.upstream:
            self.uses(f"{path}.upstream", one.upstream)
        for name in one.sni.values() if layer4 else ():
            self.uses(f"{path}.sni", name)

    def http(self, one: c.Listener, path: str) -> None:
        if not one.protocols:
            self.say(f"{path}.protocols", "is empty", 'write ["h1"]')
        if "h3" in one.protocols and one.tls is None:
            self.say(f"{path}.protocols", '"h3" needs TLS', 'write tls = "dev", or a certificate')
        if "h3" in one.protocols and any(address.is_unix for address in one.bind):
            self.say(
                f"{path}.protocols",
                '"h3" runs over UDP and cannot use a unix socket',
                'remove "h3" or the unix address',
            )
        if one.early_data and one.tls is None:
            self.say(f"{path}.early_data", "needs TLS", 'write tls = "dev", or a certificate')
        if one.limits.head < one.limits.line:
            self.say(
                f"{path}.limits.head", "is smaller than limits.line", "the head includes the request line", "warning"
            )

    def tls(self, tls: c.Tls, path: str) -> None:
        if tls.mode == "files" and not tls.certificate and not tls.certificates:
            self.say(path, "has no certificate", 'write certificate = "cert.pem" and key = "key.pem", or mode = "dev"')
        if tls.mode != "files" and (tls.certificate or tls.certificates):
            self.say(
                f"{path}.mode",
                f"{quote(tls.mode)} makes its own certificates",
                'remove certificate, or write mode = "files"',
            )
        if tls.mode == "acme" and not tls.names:
            self.say(path, "mode acme has no names", 'write names = ["shop.example"]')
        if tls.key and not tls.certificate:
            self.say(f"{path}.key", "has no certificate beside it", 'write certificate = "cert.pem"')
        if tls.min > tls.max:
            self.say(f"{path}.min", f"{tls.min} is newer than max, {tls.max}", 'write min = "1.2"')
        self.exists(f"{path}.certificate", tls.certificate)
        self.exists(f"{path}.key", tls.key)
        self.exists(f"{path}.client_ca", tls.client_ca)
        for index, certificate in enumerate(tls.certificates):
            self.exists(f"{path}.certificates[{index}].certificate", certificate.certificate or "")
            self.exists(f"{path}.certificates[{index}].key", certificate.key)

    def addresses(self) -> None:
        """Two listeners on one address, or one on all addresses of it."""
        taken: dict[tuple[str, str, int], tuple[str, str]] = {}
        for index, one in enumerate(self.config.listeners):
            path = f"listener[{index}].bind"
            for address in one.bind:
                for transport in transports(one, address):
                    self.claim(taken, (transport, address.path or address.host, address.port), path, one.name)
        page = self.config.admin.page
        if page is not None and not page.is_unix:
            self.claim(taken, ("tcp", page.host, page.port), "admin.page", "admin.page")
        if isinstance(self.config.admin.bind, Address):
            bind = self.config.admin.bind
            self.claim(
                taken,
                ("unix" if bind.is_unix else "tcp", bind.path or bind.host, bind.port),
                "admin.bind",
                "admin.bind",
            )

    def claim(
        self, taken: dict[tuple[str, str, int], tuple[str, str]], key: tuple[str, str, int], path: str, name: str
    ) -> None:
        transport, host, port = key
        if transport != "unix" and port == 0:
            return
        if key in taken:
            other, place = taken[key]
            self.say(
                path,
                f"{host}{f':{port}' if port else ''} is already bound by {quote(other)} ({self.config.origin(place)})",
                "give each its own address",
            )
            return
        taken[key] = (name, path)
        wide = "::" if ":" in host else "0.0.0.0"
        for (their_transport, their_host, their_port), (other, _) in taken.items():
            same = their_transport == transport and their_port == port and their_host != host
            if same and wide in (host, their_host) and (":" in host) == (":" in their_host):
                self.say(
                    path,
                    f"{host}:{port} overlaps with {their_host}:{port} of {quote(other)}",
                    "give each its own port",
                    "warning",
                )

    # -- [[upstream]] --

    def upstream(self, one: c.Upstream, path: str) -> None:
        if not one.servers and not one.discover:
            self.say(path, "has no servers", 'write servers = ["127.0.0.1:9000"]')
        for index, target in enumerate(one.servers):
            where = f"{path}.servers[{index}]"
            if target.address is not None and not target.address.is_unix and target.address.port == 0:
                self.say(where, "has port 0, to which nothing can connect", "write the server's port")
            if target.address is not None:
                self.unix(where, target.address)
            if target.address is not None and target.address in [other.address for other in one.servers[:index]]:
                self.say(where, f"{target.address} is there twice", "write it once, with a weight", "warning")
        if one.servers and not any(target.weight for target in one.servers) and not one.discover:
            self.say(f"{path}.servers", "all weights are 0", "give one a weight")
        if one.pool.warm > one.pool.max:
            self.say(f"{path}.pool.warm", f"{one.pool.warm} is more than max, {one.pool.max}", "write warm <= max")
        if one.tls is not None and one.protocol == "h2c":
            self.say(f"{path}.protocol", '"h2c" is HTTP/2 without TLS, and tls is set', 'write protocol = "h2"')
        if one.tls is None and one.protocol in ("h2", "h3", "auto"):
            right = 'write protocol = "h2c"' if one.protocol == "h2" else "write tls = true"
            self.say(f"{path}.protocol", f"{quote(one.protocol)} needs TLS", right)
        if one.protocol == "h3":
            if any(target.address is not None and target.address.is_unix for target in one.servers):
                self.say(f"{path}.protocol", '"h3" goes over UDP, not to a unix socket', 'write "h1", or host:port')
        if one.tls is not None:
            self.exists(f"{path}.tls.ca", one.tls.ca)
            self.exists(f"{path}.tls.certificate", one.tls.certificate)
            self.exists(f"{path}.tls.key", one.tls.key)

    # -- [[route]] --

    def route(self, one: c.Route, path: str) -> None:
        self.pattern(one, path)
        for name in one.listener:
            if (
                self.refers(f"{path}.listener", name, self.listeners, "listener")
                and self.listeners[name].kind != "http"
            ):
                kind = quote(self.listeners[name].kind)
                self.say(
                    f"{path}.listener",
                    f"listener {quote(name)} is of kind {kind}, which has no routes",
                    'name one of kind "http"',
                )
        for method in one.methods:
            if method not in STANDARD and method.upper() in STANDARD:
                self.say(
                    f"{path}.methods",
                    f"{quote(method)} is not a method; methods are in capitals",
                    f"write {quote(method.upper())}",
                )
        if not one.answers:
            self.say(path, "has no answer", f"write one of {', '.join(c.ANSWERS)}")
        elif len(one.answers) > 1:
            self.say(path, f"has {len(one.answers)} answers: {', '.join(one.answers)}", "make a route of each")
        if one.proxy is not None:
            self.proxy(one.proxy, f"{path}.proxy")
        self.named(one, path)
        for index, entry in enumerate(one.filters):
            self.filter(entry, f"{path}.filters[{index}]")
        if one.files is not None and one.files.dir:
            self.exists(f"{path}.files", one.files.dir, "warning", True)
        if one.respond is not None and one.respond.status in (204, 205, 304) and one.respond.body:
            self.say(f"{path}.respond", f"{one.respond.status} has no body (RFC 9110 section 6.4.1)", "remove the body")

    def filter(self, one: Filter, path: str) -> None:
        """Options of a filter that make no sense together."""
        given = one.options
        if one.name == "jwt" and bool(given.jwks) == (given.secret is not None):
            self.say(path, "needs a key set or a secret, and one of them", 'write jwks = "https://..." or secret = "env:NAME"')
        elif one.name == "session":
            self.session(given, path)
        elif one.name == "basic" and not given.users:
            self.say(path, "lets nobody in: it has no users", 'write users = { ann = "env:ANN_PASSWORD" }')
        elif one.name == "cors" and not given.origins:
            self.say(path, "allows no origin", 'write origins = ["https://shop.example"]')
        elif one.name in ("compress", "decompress"):
            self.codings(f"{path}.{one.name}.algorithms", given.algorithms)
        elif one.name == "ratelimit" and given.rate is not None and given.rate.unit:
            self.say(path, f"{given.rate} counts bytes", 'write a rate of requests, such as "100/s per client"')
        elif one.name == "rewrite" and given.match and given.to is not None:
            try:
                re._parser.parse_template(given.to, re.compile(given.match))  # type: ignore[attr-defined]
            except (re.error, IndexError) as error:
                self.say(f"{path}.to", f"{quote(given.to)} does not fit its pattern: {error}", "see re.sub")

    def session(self, given: SessionFilter, path: str) -> None:
        """Whether sessions can be where they should."""
        server = self.config.server
        if given.where == "token" and not given.secrets:
            self.say(path, 'where = "token" needs secrets', 'write secrets = "env:SESSION_SECRET"')
        elif given.where != "token" and (given.secrets or given.revocable):
            self.say(path, f'secrets and revocable are for where = "token", not "{given.where}"', "leave them out")
        if given.where == "token" and given.turn is not None:
            self.say(path, "turn is for sessions with an id, and a token is new with each change", "leave it out")
        if given.where == "worker" and server.workers != 1 and server.pattern != "single" and not server.sticky:
            right = 'write workers = 1, or pattern = "dispatch" and sticky = "lead", or where = "store"'
            self.say(path, "a session in one worker's memory is lost when the next request reaches another", right, "warning")
        if given.cookie.startswith("__Host-") and (given.domain or given.path != "/"):
            self.say(path, 'a "__Host-" cookie has no domain and the path "/"', "leave them out")

    def codings(self, path: str, names: Sequence[str]) -> None:
        """A coding that is asked for by name has to be there; of the default ones those that are not installed are left out."""
        if self.config.origin(path).how == "default":
            return
        for name in names:
            if not available((name,)):
                self.say(path, f"{quote(name)} is not installed", f"pip install 'fairlead[{name}]', or leave it out")

    def pattern(self, one: c.Route, path: str) -> None:
        try:
            parse_path(one.path)
        except ValueError as error:
            message, _, hint = str(error).partition("; ")
            self.say(f"{path}.path", f"{quote(one.path)} {message}", hint)
        for part in one.path.split("/"):
            if other := OTHERS.fullmatch(part):
                text = f"{quote(part)} matches these letters alone"
                self.say(f"{path}.path", text, f"any segment is written {{{other[1] or other[2]}}}", "warning")

    def parameters(self, one: c.Route) -> list[str]:
        try:
            return [name for name in parse_path(one.path)[0] if name is not None]
        except ValueError:
            return FILLED.findall(one.path)

    def named(self, one: c.Route, path: str) -> None:
        """Answers that need a name from the path, and templates that fill names in."""
        names = self.parameters(one)
        if one.topic is not None and not one.topic.name and "topic" not in names:
            self.say(f"{path}.topic", "has no name", 'write path = "/events/{topic}", or topic = { name = "orders" }')
        if one.topic is not None and one.topic.presence_lease < LEASE:
            self.say(f"{path}.topic.presence_lease", "is too short: it is renewed three times in it", 'write "1s" or more')
        if one.signal is not None:
            if "room" not in names:
                self.say(f"{path}.signal", "has no room", 'write path = "/rtc/{room}"')
            turn = one.signal.turn
            if (
                turn
                and self.refers(f"{path}.signal.turn", turn, self.listeners, "listener")
                and self.listeners[turn].kind != "turn"
            ):
                self.say(
                    f"{path}.signal.turn",
                    f"listener {quote(turn)} is of kind {quote(self.listeners[turn].kind)}",
                    'name one of kind "turn"',
                )
        if one.redirect is not None and one.redirect.to:
            known = ["scheme", "host", "path", "query", *names]
            for name in FILLED.findall(one.redirect.to):
                if name not in known:
                    self.say(f"{path}.redirect", f"{{{name}}} is unknown", f"known here: {', '.join(known)}")
            if re.search(r"[\x00-\x20\x7f]", one.redirect.to):
                self.say(f"{path}.redirect", "has a blank or a control character", "escape it (%20)")

    def proxy(self, proxy: c.Proxy, path: str) -> None:
        if bool(proxy.upstream) == bool(proxy.split):
            what = "has both upstream and split" if proxy.split else "has no upstream"
            self.say(path, what, 'write upstream = "name", or split = { a = 95, b = 5 }')
        if proxy.upstream:
            self.uses(f"{path}.upstream", proxy.upstream)
        for name in proxy.split:
            self.uses(f"{path}.split", name)
        if proxy.split and not any(proxy.split.values()):
            self.say(f"{path}.split", "all weights are 0", "give one a weight")
        if proxy.mirror:
            self.uses(f"{path}.mirror", proxy.mirror)

    def shadowed(self) -> None:
        """Routes that an earlier one always answers for. Only routes with the same first segment, or none, can."""
        groups: dict[str | None, list[Entry]] = {}
        for index, route in enumerate(self.config.routes):
            try:
                entry = Entry(route, index)
            except ValueError:
                continue
            first = entry.segments[0] if entry.segments else None
            others = groups.get(None, []) + (groups.get(first, []) if first is not None else [])
            self.hidden(entry, sorted(others, key=lambda other: other.index))
            groups.setdefault(first, []).append(entry)

    def hidden(self, entry: Entry, others: list[Entry]) -> None:
        for other in others:
            if other.shadows(entry):
                place = self.config.origin(f"route[{other.index}]")
                told = f"route {other.index + 1} ({place}, path {quote(other.route.path or '/*')})"
                message = f"is never reached: {told} answers first"
                self.say(f"route[{entry.index}]", message, "move it up, or remove it", "warning")
                return

    def whole(self) -> None:
        """What the configuration lacks or carries for nothing."""
        if not self.config.listeners and not self.config.jobs.workers:
            self.say("", "has no listener", 'write [[listener]] with bind = "127.0.0.1:8000"')
        for index, upstream in enumerate(self.config.upstreams):
            if upstream.name and upstream.name not in self.used:
                self.say(
                    f"upstream[{index}]",
                    f"{quote(upstream.name)} is used by nothing",
                    "remove it, or name it in a route",
                    "warning",
                )
        for index, listener in enumerate(self.config.listeners):
            heard = any(not route.listener or listener.name in route.listener for route in self.config.routes)
            if listener.kind == "http" and not heard:
                self.say(
                    f"listener[{index}]",
                    f"{quote(listener.name)} has no route: every answer is 404",
                    "write a [[route]]",
                    "warning",
                )


def transports(one: c.Listener, address: Address) -> list[str]:
    """What a listener binds at an address: "tcp", "udp" or "unix"."""
    if address.is_unix:
        return ["unix"]
    out = ["tcp"] if one.kind in TCP_KINDS else []
    if one.kind in UDP_KINDS or (one.kind == "http" and "h3" in one.protocols):
        out.append("udp")
    return out
