"""Fairlead: one server for every way a client can talk to a Python backend, and it tells you where each request's
time went.

The public names are those in `__all__`, and nothing else is promised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fairlead.run.version import __version__

if TYPE_CHECKING:
    from fairlead.run.embed import Server

__all__ = ["Server", "__version__", "grpc", "serve"]


def __getattr__(name: str) -> Any:
    """What is imported when it is asked for first."""
    if name == "Server":
        from fairlead.run.embed import Server

        return Server
    if name == "grpc":
        import importlib

        return importlib.import_module("fairlead.grpc")
    raise AttributeError(f"module 'fairlead' has no attribute {name!r}")


def serve(target: str, bind: str | list[str] = "127.0.0.1:8000", **options: Any) -> int:
    """Serve an application and block until the server ends; the exit code.

    ``fairlead.serve("app:app", bind="127.0.0.1:8000", workers=2)``. `target` is `module:attribute`, because each worker
    imports it anew. The options are those of `fairlead run`: workers, pattern, tls ("dev"), interface, factory, reload,
    access_log, server_timing, dir, page. Raises FairleadError when it cannot start. Call it from the main thread.
    """
    from fairlead.run.serving import serve as run

    return run(target, bind, **options)
