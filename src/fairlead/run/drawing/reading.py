"""A configuration -> the picture of it: who comes, where they arrive, which route answers by what, and what stands behind.

Rules
1. Columns: clients, listeners, routes, answers, what is behind. Routes keep the order of the file, because the first one that
   matches answers; those of the same listeners stand in one frame, so a listener has one edge to all of them.
2. What several routes share (an application, an upstream, a topic) is one box. A fixed answer or a redirect is a line of its route.
3. Six or more routes in a row that differ only in what they match are folded to three and "… and N more", long lists of
   servers and addresses likewise.
4. Whatever the configuration asks for is drawn, served by this version or not; `check` tells the difference. Nothing secret is
   shown: of a store's URL the place, never the user, the password or the query.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from fairlead.run import config as c
from fairlead.run.drawing import words
from fairlead.run.drawing.behind import Behind
from fairlead.run.drawing.picture import BACK, FRONT, ITEM, MIDDLE, Box, Group, Picture, Row

CAPTIONS = ["Clients", "Listeners", "Routes", "Answers", "Behind"]
ALIKE = 6  # routes in a row that are folded
KEPT = 3  # and as many of them are shown
ADDRESSES = 3
MANY = 30  # routes, from which on each says who answers: its edge may be long
WHO = {
    "http": ("clients", "Clients", "browsers, programs"),
    "tcp": ("tcp clients", "TCP clients", ""),
    "udp": ("udp clients", "UDP clients", ""),
    "turn": ("peers", "WebRTC peers", "browsers"),
    "forward": ("proxied", "Programs", "that use a proxy"),
    "socks5": ("proxied", "Programs", "that use a proxy"),
}


def read(config: c.Config, title: str = "") -> Picture:
    """The picture of a configuration; `title` stands for the name of its file."""
    return Reader(config, title).read()


class Reader:
    """One reading."""

    def __init__(self, config: c.Config, title: str) -> None:
        self.config = config
        self.picture = Picture(title or words.file(config), words.server(config), CAPTIONS, fixed=2)
        self.behind = Behind(config, self.picture)
        self.web = [one.name for one in config.listeners if one.kind == "http"]

    def read(self) -> Picture:
        """All of it, in the order of the columns, so that what is first in the file is first here."""
        for listener in self.config.listeners:
            self.listener(listener)
        for names, routes in self.frames():
            self.frame(names, routes)
        for listener in self.config.listeners:
            self.beneath(listener)
        for upstream in self.config.upstreams:
            self.behind.upstream(upstream.name)
        self.behind.workers()
        self.behind.outbox()
        self.picture.trim()
        return self.picture

    # ---- clients and listeners

    def listener(self, one: c.Listener) -> None:
        """A listener and who comes to it."""
        box, _ = self.picture.box(1, f"listener {one.name}", "listener", one.name)
        binds = [words.address(self.config, bind) for bind in one.bind]
        box.rows += [Row(text, ITEM, cut=FRONT) for text in words.folded(binds, ADDRESSES)]
        box.note(*words.listener(one))
        name, title, note = WHO[one.kind]
        client, new = self.picture.box(0, name, "client", title)
        if new:
            client.note(note)
            if name == "clients" and any(route.grpc is not None for route in self.config.routes):
                client.note("gRPC stubs")
        self.picture.edge(client.name, box.name, words.arrival(one))

    # ---- routes

    def frames(self) -> list[tuple[tuple[str, ...], list[tuple[int, c.Route]]]]:
        """Routes by the listeners that they answer on, numbered from 1."""
        found: dict[tuple[str, ...], list[tuple[int, c.Route]]] = {}
        for number, route in enumerate(self.config.routes, 1):
            names = tuple(name for name in self.web if not route.listeners or name in route.listeners)
            found.setdefault(names, []).append((number, route))
        return list(found.items())

    def frame(self, names: Sequence[str], routes: list[tuple[int, c.Route]]) -> None:
        """The routes of the same listeners, in one frame."""
        everywhere = list(names) == self.web
        caption = "the first match answers" if everywhere else f"on {', '.join(names) or 'no listener'} only"
        group = self.picture.group(2, f"routes {' '.join(names)}", caption)
        for name in names:
            self.picture.edge(f"listener {name}", group.name)
        for _, same in groupby(routes, key=lambda one: words.likeness(one[1])):
            alike = list(same)
            shown = alike if len(alike) < ALIKE else alike[:KEPT]
            for number, route in shown:
                self.route(group, number, route)
            if len(alike) > len(shown):
                self.more(group, alike[len(shown) :])

    def route(self, group: Group, number: int, route: c.Route) -> Box:
        """One route: what it matches, what it goes through, what answers."""
        box, _ = self.picture.box(2, f"route {number}", route.answer, words.match(route), cut=MIDDLE, group=group)
        box.rows[0].number, box.rows[0].mark = str(number), route.answer
        if len(self.config.routes) >= MANY:
            box.rows[0].mark = f"{route.answer} {words.who(route)}".strip()
        box.note(*words.conditions(route), *words.fixed(route))
        self.behind.answer(box, route)
        return box

    def more(self, group: Group, routes: list[tuple[int, c.Route]]) -> None:
        """Those that are folded: one line, with their answer's edge."""
        number, route = routes[0]
        box, _ = self.picture.box(2, f"route {number}", route.answer, f"… and {len(routes)} more like these", group=group)
        self.behind.answer(box, route, folded=True)

    # ---- what is not HTTP

    def beneath(self, one: c.Listener) -> None:
        """The part of a route, for a listener that has none."""
        box = f"listener {one.name}"
        if one.kind == "http":
            if not any(edge.source == box for edge in self.picture.edges):
                self.rule(one, "no route", "404")
        elif one.kind in ("tcp", "udp"):
            self.layer4(one)
        elif one.kind == "turn":
            rule = self.rule(one, "STUN and TURN", "turn").note(f"relays on ports {one.turn.relay}", f"realm {one.turn.realm}")
            peers, new = self.picture.box(3, f"peers {one.name}", "outside", "the other peers")
            if new:
                peers.note("whatever NAT they are behind")
            self.picture.edge(rule.name, peers.name, "UDP")
        else:
            self.forward(one)

    def rule(self, one: c.Listener, title: str, mark: str, key: str = "") -> Box:
        """A box in the place of a route."""
        box, _ = self.picture.box(2, f"rule {one.name} {key}", "outside", title, cut=MIDDLE)
        box.rows[0].mark = mark
        self.picture.edge(f"listener {one.name}", box.name)
        return box

    def layer4(self, one: c.Listener) -> None:
        """Connections or datagrams, to upstreams."""
        carrier = one.kind.upper()
        for name, upstream in one.sni.items():
            rule = self.rule(one, name, "SNI", name)
            self.picture.edge(rule.name, self.behind.upstream(upstream, carrier))
        if one.upstream:
            every = "every datagram" if one.kind == "udp" else "any other name" if one.sni else "every connection"
            rule = self.rule(one, every, one.kind).note("the kernel forwards (NAT)" if one.mode == "nat" else "")
            self.picture.edge(rule.name, self.behind.upstream(one.upstream, carrier))

    def forward(self, one: c.Listener) -> None:
        """A proxy for clients that ask for one."""
        given: c.Forward | c.Socks5 = one.forward if one.kind == "forward" else one.socks5
        rule = self.rule(one, "any host" if not given.allow else ", ".join(given.allow), one.kind).note(*words.leave(given))
        rule.rows[0].cut = BACK
        outside, new = self.picture.box(3, "outside", "outside", "the hosts asked for")
        if new:
            outside.note("by name or address")
        self.picture.edge(rule.name, outside.name)
