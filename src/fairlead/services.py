"""Our own gRPC services, ready to be a route: `grpc = "fairlead.services:server"`. See docs/guide/grpc.md.

`fairlead.v1.Topics` and `fairlead.v1.Jobs` over the store of the worker that serves them. Whoever may call them may read and
write every topic: put a filter before the route. Their .proto files are in `protos()`.
"""

from __future__ import annotations

from pathlib import Path

from fairlead.serve import grpcjobs, grpctopics
from fairlead.serve.grpcserver import Server

__all__ = ["protos", "server"]

MESSAGE = 2 << 20  # bytes of a request: what an append makes fits into what clients take (4 MiB) when it is read


def protos() -> Path:
    """The folder to give to protoc as `-I`: it has fairlead/v1/topics.proto and fairlead/v1/jobs.proto."""
    return Path(__file__).parent / "proto"


server = Server(max_message=MESSAGE)
server.add_registered_method_handlers("fairlead.v1.Topics", grpctopics.methods())
server.add_registered_method_handlers("fairlead.v1.Jobs", grpcjobs.methods())
