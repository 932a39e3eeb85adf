"""The `grpc` route: the server that a configuration names, imported, its lifespan entered, and the handler that serves it.

Rules
1. The server is a `fairlead.grpc.Server`; with `factory` a function that makes one, which may be a coroutine function.
2. Its lifespan is entered on the worker's loop before the first call and left when no route has the server any more.
3. Threads for blocking servicers are made only if there is one.
"""

from __future__ import annotations

import inspect
import logging
from typing import Any

from fairlead.core.errors import AppError
from fairlead.run import config as c
from fairlead.serve.grpc import Grpc
from fairlead.serve.grpcforms import Forms
from fairlead.serve.grpcmethods import SYNC
from fairlead.serve.grpcserver import Server
from fairlead.serve.loader import found_at

log = logging.getLogger("fairlead.error")
WAITING = 1000  # calls that may wait for a thread


class Services:
    """A server that was imported, and its lifespan."""

    def __init__(self, given: c.Grpc, server: Any = None) -> None:
        self.given = given
        self.server = server
        self.inside: Any = None

    async def start(self) -> Server:
        """Import it and enter its lifespan, once."""
        if self.server is None:
            self.server = await self.loaded()
        if self.inside is None and self.server.lifespan is not None:
            inside = self.server.running()
            try:
                await inside.__aenter__()
            except Exception as error:
                raise AppError(f"the lifespan of {self.given.target} raised {type(error).__name__}: {error}") from error
            self.inside = inside
        return self.server

    async def loaded(self) -> Server:
        """The server that the route names."""
        found = found_at(self.given.target, self.given.dir)
        if self.given.factory:
            if not callable(found):
                raise AppError(f'"{self.given.target}" is not callable, so it is no factory')
            found = found()
            found = await found if inspect.isawaitable(found) else found
        if not isinstance(found, Server):
            raise AppError(
                f'"{self.given.target}" is no gRPC server: it is a {type(found).__name__}',
                hint="make it with fairlead.grpc.Server(), not grpc.server() or grpc.aio.server()",
            )
        if self.given.reflection:
            reflect(found)
        return found

    async def close(self) -> None:
        """Leave the lifespan; a failure is logged, for nobody can do more about it."""
        if self.inside is not None:
            inside, self.inside = self.inside, None
            try:
                await inside.__aexit__(None, None, None)
            except Exception as error:
                log.error("%s: the lifespan raised %s: %s", self.given.target, type(error).__name__, error)


def reflect(server: Server) -> None:
    """Register server reflection, as `grpc_reflection` has it, for the services that are there."""
    try:
        from grpc_reflection.v1alpha import reflection
    except ImportError:
        raise AppError("reflection needs grpcio-reflection", hint='pip install "fairlead[grpc]"') from None
    if reflection.SERVICE_NAME not in server.services:
        reflection.enable_server_reflection([*server.services, reflection.SERVICE_NAME], server)


def handler(server: Server, given: c.Grpc, loop: Any, threads: Any) -> Grpc:
    """What answers a route's requests."""
    made = Grpc(server, loop, name=given.target)
    if given.web or given.json or given.origins:
        made.others = Forms(made, given.web, given.json, given.origins)
    if made.generic or made.chain or any(method.kind == SYNC for method in made.methods.values()):
        made.lane = threads.lane(given.target, given.threads, WAITING)
        made.pool = threads
    return made
