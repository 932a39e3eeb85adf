"""What answers and what stands behind: applications, files, topics, jobs, uploads, upstreams with their servers, stores.

A soft edge is what happens behind a request: something is kept in a store, an upload tells a topic, traffic is mirrored.
"""

from __future__ import annotations

from collections.abc import Callable

from fairlead.run import config as c
from fairlead.run import storing
from fairlead.run.answers import App, Files, Grpc, Job, Proxy, Signal, Topic, Upload
from fairlead.run.drawing import words
from fairlead.run.drawing.picture import FRONT, ITEM, Box, Picture, Row

SERVERS = 6  # of one upstream, before the rest is folded
KEEPING = {  # filters that keep something: their box, and the part of the store that it is in
    "idempotency": ("idempotency keys", "first answers, given again", "state"),
    "respond-async": ("requests as jobs", "answered later", "leases"),
    "session": ("sessions", "", "state"),
}


class Behind:
    """Makes the boxes of the last two columns when a route first needs them."""

    def __init__(self, config: c.Config, picture: Picture) -> None:
        self.config, self.picture = config, picture
        self.upstreams = {one.name: one for one in config.upstreams}
        self.makers: dict[str, Callable[..., str]] = {
            "app": self.app, "wsgi": self.app, "grpc": self.grpc, "files": self.files, "topic": self.topic,
            "job": self.job, "upload": self.upload, "signal": self.signal,
        }  # fmt: skip

    def answer(self, box: Box, route: c.Route, folded: bool = False) -> None:
        """The edges of a route's box."""
        if route.proxy is not None:
            self.proxy(box, route.proxy, folded)
        elif route.answer in self.makers:
            self.picture.edge(box.name, self.makers[route.answer](getattr(route, route.answer), route))
        for one in route.filters:
            if one.name in KEEPING:
                self.kept(box, one.name, one.options)

    # ---- answers

    def app(self, app: App, route: c.Route | None = None) -> str:
        """An application."""
        box, new = self.picture.box(3, f"app {app.target} {app.dir}", "app", app.target, cut=FRONT)
        wsgi = app.interface == "wsgi" or (route is not None and route.wsgi is not None)
        if new:
            box.note("WSGI application" if wsgi else "ASGI application" if app.interface == "asgi" else "application")
        return box.name

    def grpc(self, grpc: Grpc, route: c.Route) -> str:
        """A gRPC server; our own one reads topics and jobs."""
        box, new = self.picture.box(3, f"grpc {grpc.target} {grpc.dir}", "grpc", grpc.target, cut=FRONT)
        if new:
            spoken = ("gRPC", "gRPC-Web" * grpc.web, "JSON" * grpc.json, "reflection" * grpc.reflection)
            box.note(" · ".join(word for word in spoken if word))
            if grpc.target == storing.SERVICES:
                box.note("topics and jobs by gRPC")
                self.keep(box.name, "log")
                self.keep(box.name, "leases")
        return box.name

    def files(self, files: Files, route: c.Route) -> str:
        """A directory."""
        box, new = self.picture.box(3, f"files {files.dir}", "files", words.folder(self.config, files.dir), cut=FRONT)
        if new:
            box.note(" · ".join(("files", *words.files(files))))
        return box.name

    def topic(self, topic: Topic, route: c.Route) -> str:
        """A topic, or all that a path names."""
        named = topic.name or "{topic}"
        box, new = self.picture.box(3, f"topic {topic.name or route.path}", "topic", named)
        if new:
            box.note(*words.topic(topic))
            self.keep(box.name, "log")
        return box.name

    def job(self, job: Job, route: c.Route | None = None) -> str:
        """A kind of job."""
        box, new = self.picture.box(3, f"job {job.run}", "job", job.run, cut=FRONT)
        if new:
            box.note(words.job(job))
            self.keep(box.name, "leases")
        return box.name

    def upload(self, upload: Upload, route: c.Route) -> str:
        """Where uploads go, and whom a finished one is told."""
        place = words.folder(self.config, upload.dir)
        box, new = self.picture.box(3, f"upload {upload.dir}", "upload", place, cut=FRONT)
        if not new:
            return box.name
        box.note(words.upload(upload), f"then calls {upload.done}" if upload.done else "")
        if upload.publish:
            self.picture.edge(box.name, self.told(upload.publish), soft=True)
        if upload.job:
            self.picture.edge(box.name, self.job(Job(run=upload.job)), soft=True)  # type: ignore[call-arg]
        if upload.app is not None:
            self.picture.edge(box.name, self.app(upload.app), soft=True)
        if upload.dir.startswith("s3://"):
            bucket, _ = self.picture.box(4, f"s3 {upload.endpoint}", "store", "S3")
            bucket.rows = bucket.rows[:1]
            bucket.note(words.place(upload.endpoint) if upload.endpoint else "AWS")
            self.picture.edge(box.name, bucket.name)
        self.keep(box.name, "state")
        return box.name

    def told(self, name: str) -> str:
        """The box of a topic that something is published to: its own route's, or that of a path that names it."""
        routes = [route for route in self.config.routes if route.topic is not None]
        for route in sorted(routes, key=lambda route: route.topic.name != name if route.topic is not None else True):
            if route.topic is not None and route.topic.name in (name, ""):
                return self.topic(route.topic, route)
        box, new = self.picture.box(3, f"topic {name}", "topic", name)
        if new:
            box.note("topic · no route reads it")
            self.keep(box.name, "log")
        return box.name

    def signal(self, signal: Signal, route: c.Route) -> str:
        """WebRTC's rooms."""
        box, new = self.picture.box(3, f"signal {route.path}", "signal", "signalling rooms")
        if new:
            box.note(f"{signal.peers} peers each", f"credentials of {signal.turn}" if signal.turn else "")
        return box.name

    # ---- what filters keep

    def kept(self, box: Box, name: str, options: object) -> None:
        """The box of what a filter keeps for its routes."""
        title, note, part = KEEPING[name]
        where = getattr(options, "where", "store")
        if name == "session" and where == "token" and not getattr(options, "revocable", False):
            return
        made, new = self.picture.box(3, f"kept {title} {where}", "kept", title)
        if new:
            made.note(note or {"store": "in the store", "worker": "in one worker's memory", "token": "which are revoked"}[where])
            if where != "worker":
                self.keep(made.name, part)
        self.picture.edge(box.name, made.name, soft=True)

    def keep(self, box: str, part: str) -> None:
        """An edge to the engine that has this part of the store."""
        self.picture.edge(box, self.store(part), soft=True)

    def store(self, part: str) -> str:
        """The engine of a part."""
        given = self.config.store
        url = getattr(given, part) or given.url
        engine, place = words.engine(self.config, url)
        box, new = self.picture.box(4, f"store {url}", "store", engine)
        if new:
            box.rows += [Row(place, ITEM, cut=FRONT)] if place else []
            if any((given.log, given.leases, given.state)):
                held = [one for one in ("log", "leases", "state") if (getattr(given, one) or given.url) == url]
                box.note(f"holds {', '.join(held)}")
            box.note(f"acknowledges after {given.ack}" if given.ack else "")
        return box.name

    # ---- upstreams

    def proxy(self, box: Box, proxy: Proxy, folded: bool) -> None:
        """To one upstream, to several by weight, and to one that only hears."""
        if proxy.upstream:
            self.picture.edge(box.name, self.upstream(proxy.upstream))
        total = sum(proxy.split.values()) or 1
        for name, weight in proxy.split.items():
            row = None if folded else Row(f"{100 * weight / total:.3g} % {name}", ITEM)
            box.rows += [row] if row is not None else []
            self.picture.edge(box.name, self.upstream(name), row=row)
        if proxy.mirror:
            self.picture.edge(box.name, self.upstream(proxy.mirror), soft=True)

    def upstream(self, name: str, carrier: str = "") -> str:
        """An upstream and its servers; `carrier` is TCP or UDP where nothing above is spoken."""
        box, new = self.picture.box(3, f"upstream {name}", "upstream", name)
        one = self.upstreams.get(name)
        if new and one is not None:
            box.note(*words.upstream(one))
            self.servers(box, one, carrier)
        return box.name

    def servers(self, box: Box, one: c.Upstream, carrier: str) -> None:
        """The list of an upstream's servers."""
        rows = [Row(words.address(self.config, server.address), ITEM, words.share(server), cut=FRONT) for server in one.servers]
        if len(rows) > SERVERS:
            rows = [*rows[: SERVERS - 1], Row(f"… and {len(rows) - SERVERS + 1} more")]
        if one.discover:
            rows.append(Row(one.discover, ITEM, cut=FRONT))
        if rows:
            made, _ = self.picture.box(4, f"servers {one.name}", "upstream", "")
            made.rows = rows
            self.picture.edge(box.name, made.name, carrier or words.spoken(one))

    # ---- who works beside the requests

    def workers(self) -> None:
        """Processes that work on jobs."""
        jobs = self.config.jobs
        if jobs.workers:
            box, _ = self.picture.box(3, "jobs workers", "job", words.count(jobs.workers, "process", "processes") + " for jobs")
            box.note(", ".join(jobs.modules))
            self.keep(box.name, "leases")
        elif not any(column.groups for column in self.picture.columns[4:]) and storing.wanted(self.config):
            self.store("log")

    def outbox(self) -> None:
        """Databases of applications, whose outbox is moved to the store."""
        for url in self.config.store.outbox:
            engine, place = words.engine(self.config, url)
            box, _ = self.picture.box(4, f"outbox {url}", "store", f"outbox in {engine}")
            box.rows += [Row(place, ITEM, cut=FRONT)] if place else []
            self.picture.edge(box.name, self.store("log"), soft=True)
