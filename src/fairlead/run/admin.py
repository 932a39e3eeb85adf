"""The admin socket and the page, served by the master itself over our own stack: they live while every worker is stuck.

Rules
1. The socket is private (mode 0600) and named after the first listener's port, so that several servers find a place.
2. A socket that cannot be had stops the start only when the configuration asks for that one. The same holds for the
   page's port: without a word in the configuration the next free one is taken.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairlead.core.errors import NetError, Refused
from fairlead.core.handler import Handler, Service
from fairlead.core.limits import SECOND, Limits
from fairlead.core.message import Common
from fairlead.net.listen import Listener
from fairlead.net.poll import Poller
from fairlead.run import accepting, grpcstats, jobstats, sockets, systemd
from fairlead.run import config as c
from fairlead.run.observe import Observation, page_files
from fairlead.run.prometheus import exposition
from fairlead.run.role import SERVING
from fairlead.run.topicstats import Topics
from fairlead.run.units import Address
from fairlead.run.uploadstats import UploadStats
from fairlead.serve import admin
from fairlead.wire.h1 import H1

if TYPE_CHECKING:
    from fairlead.run.master import Master

log = logging.getLogger("fairlead")

PORTS = 20  # page ports tried after the wanted one


class Renamed(Handler):
    """The admin with the health paths of the configuration."""

    def __init__(self, inner: Handler, settings: c.Admin) -> None:
        self.inner = inner
        self.names = {settings.live.encode(): b"/healthz", settings.ready.encode(): b"/readyz"}

    def open(self, exchange: Any) -> None:
        """Go on under the name that the admin knows."""
        exchange.request.target = self.names.get(exchange.request.target, exchange.request.target)
        self.inner.open(exchange)


class Admin:
    """What the master serves beside the workers. `page_url` is "" without a page, `path` without a socket."""

    def __init__(self, master: Master) -> None:
        self.master = master
        self.settings = master.config.admin
        self.page_url = self.path = ""
        self.drawn: tuple[Any, bytes] | None = None  # a configuration and its picture
        self.socks = dict(master.given.admin)  # by "socket" and "page"
        self.token = master.given.token
        self.made = master.given.made
        master.given.admin.clear()
        self.listeners: list[Listener] = []
        self.handlers: list[Any] = []
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Open and serve."""
        loop = self.master.loop
        self.common = Common()
        self.poller = Poller(loop, self.common)
        self.topics = Topics(self.master)
        self.uploads = UploadStats(self.master)
        self.observation = Observation(self.master.slab, self.master.status, living=self.living)
        self.task = loop.create_task(self.watch())
        self.start_socket()
        if self.settings.page is not None:
            self.start_page(self.settings.page)

    def living(self) -> set[int]:
        """The slab regions of the workers there are."""
        return {role.slot for role in self.master.roles}

    async def watch(self) -> None:
        """A sample every second, and four looks at the accept queues."""
        path = self.master.accept_path
        while True:
            self.observation.sample()
            for _ in range(round(1 / accepting.EVERY)):
                path.look()
                await asyncio.sleep(accepting.EVERY)

    def start_socket(self) -> None:
        """The private socket for the commands."""
        wanted = self.settings.bind
        if wanted == "off":
            return
        if isinstance(wanted, Address) and not wanted.is_unix:
            tcp = self.inherited("socket", wanted) or sockets.open_all(wanted, 1, 64, c.Socket())[0]
            self.serve("socket", tcp, self.tcp_handler(wanted))
            return
        path = wanted.path if isinstance(wanted, Address) else str(default_path(self.master.holder.bound()))
        address = Address("", 0, path)
        sock = self.inherited("socket", address)
        if sock is None:
            try:
                sock = sockets.open_unix(address, 64, 0o600)
            except NetError as error:
                if wanted != "auto":
                    raise
                log.warning("no admin socket: %s", error)
                return
            self.made = sockets.identity(sock)
        self.path = path
        self.serve("socket", sock, self.handler(None, None))

    def inherited(self, name: str, wanted: Address) -> socket.socket | None:
        """The socket that an older master left us, if it is the one we want (any port of a host, for the page)."""
        sock = self.socks.pop(name, None)
        if sock is None:
            return None
        bound = systemd.bound_to(sock)
        if bound == wanted or (name == "page" and bound.host == wanted.host and not wanted.is_unix):
            return sock
        sock.close()
        return None

    def disown(self) -> None:
        """Accept no more: a new master does, and the socket's path is its own."""
        self.path = ""
        for listener in self.listeners:
            listener.stop()

    def start_page(self, wanted: Address) -> None:
        """The page for a browser."""
        sock: Any
        fixed = "admin.page" in self.master.config.sources or wanted.is_unix
        sock = self.inherited("page", wanted)
        for port in range(wanted.port, wanted.port + (1 if fixed or not wanted.port else PORTS)):
            try:
                sock = sock or sockets.open_all(Address(wanted.host, port, wanted.path), 1, 64, c.Socket())[0]
                break
            except NetError as error:
                problem = error
        else:
            if fixed:
                raise problem
            log.warning("no page: %s", problem)
            return
        self.serve("page", sock, self.tcp_handler(wanted))
        if not wanted.is_unix:
            bound = Address(wanted.host, sock.getsockname()[1])
            self.page_url = f"http://{bound}/"

    def tcp_handler(self, address: Address) -> Handler:
        """The admin on TCP, with its token."""
        given = self.settings.token
        self.token = self.token or (given.value() if given is not None else secrets.token_urlsafe(12))
        return self.handler(self.token, (address.host,))

    async def grpc(self) -> dict[str, Any]:
        """What the gRPC servers of all workers did."""
        return await grpcstats.all_of([role for role in self.master.roles if role.state == SERVING])

    async def jobs(self) -> dict[str, Any]:
        """Queues, what runs, what was tried in vain, dead letters, schedules."""
        return await jobstats.show(self.master)

    async def change_job(self, path: str, query: dict[str, list[str]]) -> dict[str, Any]:
        """Redrive or cancel."""
        kind, name = (query.get(word, [""])[0] for word in ("kind", "id"))
        what = path.rpartition("/")[2]
        if not kind or (what == "cancel" and not name):
            raise Refused("say which: ?kind=module:function&id=…", status=400)
        return await jobstats.ask(self.master, do=what, kind=kind, id=name)

    async def keys(self) -> dict[str, Any]:
        """Idempotency-Keys whose outcome is unknown."""
        return await jobstats.ask(self.master, do="unknown")

    async def settle_key(self, path: str, query: dict[str, list[str]]) -> dict[str, Any]:
        """One is not unknown any more."""
        name, status, body = (query.get(word, [""])[0] for word in ("id", "status", "body"))
        if not name or not (status.isascii() and status.isdigit() and (status == "0" or 200 <= int(status[:4]) <= 599)):
            raise Refused("say which, and what came of it: ?id=…&status=0 (not done) or 200 to 599", status=400)
        return await jobstats.ask(self.master, do="settle", id=name, status=int(status), body=body)

    async def measured(self) -> bytes:
        """Further lines of /metrics."""
        return await self.topics.exposition() + await self.uploads.exposition()

    async def keepers(self) -> dict[str, str]:
        """Where the embedded stores are kept."""
        return self.master.keepers.addresses()

    def diagram(self) -> bytes:
        """The running configuration as a picture, drawn once."""
        config = self.master.config
        if self.drawn is None or self.drawn[0] is not config:
            from fairlead.run.drawing.reading import read
            from fairlead.run.drawing.svg import svg

            self.drawn = config, svg(read(config)).encode()
        return self.drawn[1]

    def handler(self, token: str | None, hosts: tuple[str, ...] | None) -> Handler:
        """The admin's API and page."""
        keepers = {"/api/keepers": self.keepers} if hosts is None else {}  # whoever may read our socket may have the store
        made = admin.Admin(
            self.observation,
            control=self.master,
            more={
                "/api/grpc": self.grpc,
                "/api/topics": self.topics.show,
                "/api/jobs": self.jobs,
                "/api/uploads": self.uploads.numbers,
                "/api/idempotency": self.keys,
                **keepers,
            },
            changes={
                "/api/topics/redrive": self.topics.redrive,
                "/api/jobs/redrive": self.change_job,
                "/api/jobs/cancel": self.change_job,
                "/api/idempotency/settle": self.settle_key,
            },
            exposition=exposition,
            measured=self.measured,
            page=pages(),
            diagram=self.diagram,
            token=token,
            hosts=hosts,
            loop=self.master.loop,
        )
        self.handlers.append(made)
        return Renamed(made, self.settings)

    def serve(self, name: str, sock: socket.socket, handler: Handler) -> None:
        """Accept on a socket."""
        self.socks[name] = sock
        limits = Limits(body=65536, idle=60 * SECOND)
        service = Service(handler, name="admin", clock=self.poller, limits=limits, common=self.common)
        listener = Listener(self.poller, sock, service, lambda conn, _: H1(conn, limits, common=self.common))
        listener.start()
        self.listeners.append(listener)

    def close(self) -> None:
        """The end."""
        for handler in self.handlers:
            handler.close()
        for listener in self.listeners:
            listener.stop()
            listener.sock.close()
            for tcp in list(listener.tcps):
                tcp.abort(None)
        if self.task is not None:
            self.task.cancel()
        if self.path:
            sockets.unlink(self.path, self.made)
        self.poller.close()


def pages() -> dict[str, tuple[bytes, bytes]]:
    """The page's files; none when this install has none."""
    try:
        return page_files()
    except OSError:
        return {}


def folders() -> list[Path]:
    """Where admin sockets may be, the one for new ones first."""
    found = [Path(os.environ["XDG_RUNTIME_DIR"])] if os.environ.get("XDG_RUNTIME_DIR") else []
    found.append(Path("/run") if os.geteuid() == 0 else Path(f"/tmp/fairlead-{os.geteuid()}"))
    return found


def default_path(bound: list[tuple[str, Address]]) -> Path:
    """The socket's path: named after the first listener's port, or the name of its socket."""
    folder = folders()[0]
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
    if not bound:
        return folder / f"fairlead-jobs-{os.getpid()}.sock"
    address = bound[0][1]
    return folder / f"fairlead-{Path(address.path).stem if address.is_unix else address.port}.sock"
