"""Fairlead: one server for every way a client can talk to a Python backend, and it tells you where each request's
time went.

The public names are those in `__all__`, and nothing else is promised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fairlead.run.version import __version__

if TYPE_CHECKING:
    from fairlead.core.errors import Refused
    from fairlead.run.embed import Server
    from fairlead.serve.hold import Hold
    from fairlead.serve.jobrun import current_job
    from fairlead.serve.jobs import job
    from fairlead.serve.sessions import Session, revoke_sessions
    from fairlead.serve.topicapi import Topic

__all__ = [
    "Hold", "Refused", "Server", "Session", "Topic", "__version__", "current_job", "grpc", "job", "revoke_sessions", "serve",
    "topic",
]  # fmt: skip
LATE = {  # what is imported when it is asked for first
    "Hold": "fairlead.serve.hold",
    "Refused": "fairlead.core.errors",
    "Server": "fairlead.run.embed",
    "Topic": "fairlead.serve.topicapi",
    "current_job": "fairlead.serve.jobwork",
    "job": "fairlead.serve.jobs",
    "Session": "fairlead.serve.sessions",
    "revoke_sessions": "fairlead.serve.sessions",
}


def __getattr__(name: str) -> Any:
    """The names of LATE, and the module `grpc`."""
    import importlib

    if name in LATE:
        return getattr(importlib.import_module(LATE[name]), name)
    if name == "grpc":
        return importlib.import_module("fairlead.grpc")
    raise AttributeError(f"module 'fairlead' has no attribute {name!r}")


def topic(name: str, content_type: str = "application/json", **options: Any) -> Topic:
    """A topic by name, inside a worker: `await fairlead.topic("orders").publish({"id": 1})`. Options: keep, max."""
    from fairlead.serve.topicapi import Topic

    return Topic(name, content_type, **options)


def serve(target: str, bind: str | list[str] = "127.0.0.1:8000", **options: Any) -> int:
    """Serve an application and block until the server ends; the exit code.

    ``fairlead.serve("app:app", bind="127.0.0.1:8000", workers=2)``. `target` is `module:attribute`, because each worker
    imports it anew. The options are those of `fairlead run`: workers, pattern, tls ("dev"), interface, factory, reload,
    access_log, server_timing, dir, page. Raises FairleadError when it cannot start. Call it from the main thread.
    """
    from fairlead.run.serving import serve as run

    return run(target, bind, **options)
