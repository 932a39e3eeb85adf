"""What `send()` gives an application: an awaitable that is over at once, or the error that the client is gone."""

from __future__ import annotations

from fairlead.core.errors import NetError


class Disconnected(NetError, ConnectionError):
    """The client is gone; raised by `send()`, and an OSError as the ASGI specification asks (2.4)."""

    def __init__(self, message="the client closed the connection"):
        super().__init__(message, step="send", status=499, retry="never")


class Done:
    """An awaitable that is over at once. Also a coroutine in shape, so that `create_task(send(...))` works."""

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        raise StopIteration

    def send(self, value):
        """Coroutine protocol: done at the first step."""
        raise StopIteration

    def throw(self, kind, value=None, trace=None):
        """Coroutine protocol: raises what was thrown."""
        raise kind if value is None else value

    def close(self):
        """Coroutine protocol: nothing to stop."""


DONE = Done()


def is_disconnect(error):
    """Did the application only pass on that the client left? Frameworks wrap our Disconnected in their own errors."""
    for _ in range(8):
        if error is None:
            return False
        if isinstance(error, Disconnected):
            return True
        inner = getattr(error, "exceptions", None)
        if inner:
            return is_disconnect(inner[0])
        error = error.__cause__ if error.__cause__ is not None else error.__context__
    return False
