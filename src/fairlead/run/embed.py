"""A server inside a program that runs already: in its event loop, or in a thread of its own. For embedding and for tests.

    async with fairlead.Server(app, bind="127.0.0.1:0") as server: ...      # in this loop
    with fairlead.Server("shop.main:app", tls="dev") as server: ...         # in a thread, for code that is not async

Rules
1. It is one worker with the plan, the routes, the filters and the journey of `fairlead run`, without master, signals, admin
   socket or page; nothing of the process is changed but what the sockets need.
2. Leaving the block drains: no more accepting, what is open may finish within `server.grace`, then it is cut.
3. An application given as an object lives in this process, so it may share what it likes with the code around it.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from dataclasses import replace
from typing import Any

from fairlead.core.errors import ConfigError
from fairlead.core.slab import Slab
from fairlead.run import config as c
from fairlead.run import filtering, sockets
from fairlead.run import plan as plans
from fairlead.run.build import Builder
from fairlead.run.holder import wants_datagrams
from fairlead.run.load import config_from_args, load
from fairlead.run.state import State
from fairlead.run.units import Address

TICKET_KEY = 80  # bytes of one key for session tickets, as OpenSSL takes it


class Server:
    """Serve `app`: an ASGI or WSGI application, `"module:attribute"`, or the path of a configuration file.

    `bind` as in `fairlead run` (port 0 is any free one); options: tls ("dev"), interface, factory, dir, access_log ("off"
    unless given), server_timing. After it has started: `url`, `port`, `addresses`, `requests()`. Raises FairleadError when
    it cannot start; the application's own error is its cause.
    """

    def __init__(self, app: Any, bind: str | list[str] = "127.0.0.1:0", **options: Any) -> None:
        self.given: Any = None if isinstance(app, str) else app
        self.config = configured(app, bind, options)
        self.addresses: list[Address] = []
        self.slab: Slab | None = None
        self.thread: threading.Thread | None = None

    # ---- what it says of itself

    @property
    def port(self) -> int:
        """The port of the first address."""
        return self.addresses[0].port

    @property
    def url(self) -> str:
        """The first address as a URL, without a path."""
        scheme = "http" if self.config.listeners[0].tls is None else "https"
        host = self.addresses[0].host
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
        return f"{scheme}://{'localhost' if scheme == 'https' else host}:{self.port}"

    @property
    def ca(self) -> str:
        """With `tls="dev"`: the file of the CA that a client has to trust."""
        from fairlead.net.certs import dev_ca

        return str(dev_ca().ca_path)

    def requests(self) -> list[dict[str, Any]]:
        """The last requests, newest first, with their steps; as `fairlead why` shows them."""
        from fairlead.run.observe import Observation

        return [] if self.slab is None else Observation(self.slab).latest()

    # ---- in a loop

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Bind, load, and accept."""
        loop = asyncio.get_running_loop()
        plan = plans.make(self.config)
        self.slab = Slab.create(1)
        values = {"config": self.config, "workers": 1, "ticket_keys": [secrets.token_bytes(TICKET_KEY)], "index": 0}
        self.builder = Builder(loop, self.slab.region(0), State(), values)
        self.builder.given = self.given
        self.builder.rates = filtering.shared_buckets(self.slab)
        opened: list[tuple[str, Any]] = []
        try:
            for listener in plan.listeners:
                for address in listener.bind:
                    [sock] = sockets.open_all(address, 1, self.config.server.backlog, listener.socket)
                    opened.append((listener.name, sock))
                    self.addresses.append(bound(address, sock))
                    if wants_datagrams(listener):
                        opened += [(listener.name, one) for one in sockets.open_datagrams(self.addresses[-1], 1, listener.socket)]
            built = await self.builder.build(plan, values)
            self.builder.serve(built, None)
            self.built = built
        except BaseException:
            for _, sock in opened:
                sock.close()
            self.addresses.clear()
            await self.builder.close(1.0)
            raise
        self.sockets = opened
        self.listeners = [built.listener(name, sock) for name, sock in opened]
        for one in self.listeners:
            one.start()

    async def stop(self) -> None:
        """Drain and close."""
        grace = self.config.server.grace
        for one in self.listeners:
            one.stop()
            one.sock.close()
            self.builder.last_words(one)
        await asyncio.gather(*(one.drain(grace) for one in self.listeners))
        await self.builder.close(max(1.0, grace))
        for address in self.addresses:
            if address.is_unix:
                sockets.clear_stale(address.path)

    # ---- in a thread

    def __enter__(self) -> Server:
        started: list[BaseException | None] = []
        ready = threading.Event()
        self.thread = threading.Thread(target=self.live, args=(started, ready), name="fairlead", daemon=True)
        self.thread.start()
        ready.wait()
        if started[0] is not None:
            self.thread.join()
            raise started[0]
        return self

    def __exit__(self, *_: object) -> None:
        assert self.thread is not None
        self.loop.call_soon_threadsafe(self.leave.set)
        self.thread.join()

    def live(self, started: list[BaseException | None], ready: threading.Event) -> None:
        """The thread."""
        from fairlead.run.worker import new_loop

        async def main() -> None:
            self.loop, self.leave = asyncio.get_running_loop(), asyncio.Event()
            try:
                await self.start()
            except BaseException as error:
                started.append(error)
                ready.set()
                return
            started.append(None)
            ready.set()
            await self.leave.wait()
            await self.stop()

        with asyncio.Runner(loop_factory=lambda: new_loop(self.config.server.loop)) as runner:
            runner.run(main())


def configured(app: Any, bind: str | list[str], options: dict[str, Any]) -> c.Config:
    """The configuration of what `Server` was given."""
    options.setdefault("access_log", "off")
    if isinstance(app, str) and ":" not in app:
        config = load(app)
    else:
        try:
            config = config_from_args(app if isinstance(app, str) else "embedded:app", bind, page="off", **options)
        except TypeError as error:
            raise ConfigError(f"fairlead.Server: {error}", hint="see the docstring for the options") from None
    if config.server.worker_count != 1 or config.server.chosen_pattern != "single":
        config = replace(config, server=replace(config.server, workers=1, pattern="single"))
    return config


def bound(address: Address, sock: Any) -> Address:
    """The address a socket really has."""
    return address if address.is_unix else Address(address.host, sock.getsockname()[1])
