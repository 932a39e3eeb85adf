"""What our own gRPC services say when something is not so: our errors as statuses (statuscodes.md), in one place.

    INVALID_ARGUMENT (3)       what was sent makes no sense
    NOT_FOUND (5)              no such topic, group, job or kind
    FAILED_PRECONDITION (9)    ended, over, fenced: a repeat is of no use
    ABORTED (10)               somebody else was first: look again, then repeat
    OUT_OF_RANGE (11)          events are no longer kept; trailers say which are
    UNAVAILABLE (14)           the store cannot be reached
"""

from __future__ import annotations

from functools import wraps
from typing import Any

from fairlead.core.errors import AppError, FairleadError, Refused
from fairlead.store.contract import (
    Closed,
    Conflict,
    Fenced,
    Gap,
    NoTopic,
    Offset,
    ProducerGap,
    StaleProducer,
    StoreError,
)

BY_KIND: tuple[tuple[Any, int], ...] = (
    (NoTopic, 5),
    (Gap, 11),
    ((Closed, StaleProducer, ProducerGap, Fenced), 9),
    (Conflict, 10),
    (AppError, 3),
)
BY_STATUS = {400: 3, 401: 16, 403: 7, 404: 5, 409: 9, 410: 11, 413: 8, 415: 3, 429: 8, 501: 12, 503: 14}


def status_of(error: FairleadError) -> int:
    """The gRPC status of an error."""
    for kind, code in BY_KIND:
        if isinstance(error, kind):
            return code
    usual = 14 if isinstance(error, StoreError) else 13
    return BY_STATUS.get(error.status, usual)


async def refuse(context: Any, error: FairleadError) -> None:
    """End the call with it. Raises."""
    trailers: tuple[tuple[str, str], ...] = ()
    if isinstance(error, Gap):
        trailers = (("fairlead-earliest", str(error.earliest)), ("fairlead-latest", str(error.latest)))
    elif isinstance(error, Closed):
        trailers = (("fairlead-latest", str(error.last)),)
    text = f"{error} ({error.hint})" if error.hint else f"{error}"
    await context.abort(status_of(error), text, trailers)


def unary(function: Any) -> Any:
    """A method of one request and one answer, whose errors are statuses."""

    @wraps(function)
    async def called(request: Any, context: Any) -> Any:
        try:
            return await function(request, context)
        except FairleadError as error:
            return await refuse(context, error)

    return called


def offset_of(text: str) -> Offset:
    """An offset as a client gives it. Refused."""
    try:
        return Offset.parse(text)
    except ValueError as error:
        raise Refused(f"{error}", status=400) from None


def here(found: Any) -> Any:
    """What this process serves by. Refused when it has no store."""
    if found is None:
        raise Refused("no store is open here", status=503, hint="the server's configuration needs [store]")
    return found
