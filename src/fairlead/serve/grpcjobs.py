"""`fairlead.v1.Jobs`: jobs as a gRPC service. What its messages mean is in proto/fairlead/v1/jobs.proto.

Rules
1. A kind is what this worker knows: by a `job` route or `@fairlead.job`. Another one is NOT_FOUND.
2. A job belongs to the principal that asked for it, where there is one: to others it does not exist.
3. Watch follows the job's topic: what happened since it was first followed and what happens, each once, and ends when the job is
   over. With the `offset` of an earlier message it goes on after that.
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from typing import Any

from fairlead.core.errors import FairleadError, Refused
from fairlead.serve import jobs as work
from fairlead.serve import topicapi
from fairlead.serve.feed import Leg
from fairlead.serve.grpcmethods import Handled, handled
from fairlead.serve.grpcrefusals import here, offset_of, refuse, unary
from fairlead.serve.jobhttp import ID, WAIT
from fairlead.serve.jobs import Jobs, Row, topic_of
from fairlead.serve.topicapi import Listening, Pieces, as_json
from fairlead.store.contract import Gap, Offset
from fairlead.wire.protobuf import BOOL, DOUBLE, TEXT, UINT, Shape

UNIQUE = 1024  # characters of `unique`, as over HTTP
DELAY = 1e9  # seconds, about as long as a Fairlead-Delay may be

SUBMIT = Shape(kind=(1, TEXT), arguments=(2, TEXT), unique=(3, TEXT), delay=(4, DOUBLE))
GET = Shape(kind=(1, TEXT), id=(2, TEXT), wait=(3, DOUBLE))
CANCEL = Shape(kind=(1, TEXT), id=(2, TEXT))
WATCH = Shape(kind=(1, TEXT), id=(2, TEXT), after=(3, TEXT))
JOB = Shape(
    id=(1, TEXT), kind=(2, TEXT), state=(3, TEXT), attempt=(4, UINT), created=(5, DOUBLE), due=(6, DOUBLE), started=(7, DOUBLE),
    finished=(8, DOUBLE), progress=(9, TEXT), result=(10, TEXT), error=(11, TEXT), cancelling=(12, BOOL), offset=(13, TEXT),
)  # fmt: skip


def methods() -> dict[str, Handled]:
    """The handlers of the service by name."""
    return {
        "Submit": handled(unary(submit), decode=SUBMIT.decode, encode=JOB.encode),
        "Get": handled(unary(get), decode=GET.decode, encode=JOB.encode),
        "Cancel": handled(unary(cancel), decode=CANCEL.decode, encode=JOB.encode),
        "Watch": handled(watch, server_stream=True, decode=WATCH.decode, encode=JOB.encode),
    }


async def submit(request: dict[str, Any], context: Any) -> dict[str, Any]:
    """A new job. Refused, AppError, StoreError."""
    args, named = arguments(request["arguments"])
    if len(request["unique"]) > UNIQUE:
        raise Refused(f"unique is longer than {UNIQUE}", status=400)
    delay = seconds(request["delay"], "delay", DELAY)
    row = await jobs().submit(
        known(request["kind"]), args, named, unique=request["unique"], delay=delay, owner=owner_of(context)
    )  # fmt: skip
    return shown(row.shown())


async def get(request: dict[str, Any], context: Any) -> dict[str, Any]:
    """As it is now, or when it is over. Refused."""
    row = await owned(request, context)
    wait = seconds(request["wait"], "wait", WAIT)
    return shown((await jobs().wait(row.kind, row.id, wait) or row).shown())


async def cancel(request: dict[str, Any], context: Any) -> dict[str, Any]:
    """Wanted no more. Refused."""
    row = await owned(request, context)
    return shown((await jobs().cancel(row.kind, row.id)).shown())


async def watch(request: dict[str, Any], context: Any) -> AsyncIterator[dict[str, Any]]:
    """Rule 3."""
    out: Listening | None = None
    try:
        row = await owned(request, context)
        after = offset_of(request["after"]) if request["after"] else None
        await jobs().followed(row.kind, row.id)
        feed = here(topicapi.here.feed)
        ring = await feed.ring(topic_of(row.kind, row.id))
        out = Listening(feed)
        Leg(out, ring, after, Pieces(out))
        while (got := await out.next()) is not None:
            if isinstance(got, Gap):  # of the oldest; what a job is now comes after
                continue
            for event in got.events:
                yield shown(json.loads(event.data), str(Offset(got.next.epoch, event.seq)))
    except FairleadError as error:
        await refuse(context, error)
    finally:
        if out is not None:
            out.shut()


def jobs() -> Jobs:
    """This worker's. Refused."""
    found: Jobs = here(work.here)
    return found


def known(kind: str) -> str:
    """A kind that is worked on here. Refused."""
    if kind not in jobs().kinds:
        raise Refused(f"there is no job {kind[:ID]!r}", status=404, hint="module:function, or the name it was given")
    return kind


async def owned(request: dict[str, Any], context: Any) -> Row:
    """The job of a request, if it is this principal's. Refused."""
    kind, name = known(request["kind"]), request["id"]
    row = await jobs().get(kind, name) if 0 < len(name) <= ID else None
    if row is None or (row.owner and row.owner != owner_of(context)):
        raise Refused(f"there is no job {name[:ID]}", status=404, hint="a finished job is kept for a time only")
    return row


def owner_of(context: Any) -> str:
    """Who asks, as a filter found out."""
    return str(context.principal or "")


def seconds(value: float, name: str, most: float) -> float:
    """A duration. Refused."""
    if math.isnan(value) or value < 0:
        raise Refused(f"{name} is a number of seconds", status=400)
    return min(value, most)


def arguments(text: str) -> tuple[list[Any], dict[str, Any]]:
    """(by place, by name). Refused."""
    try:
        value = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError) as error:
        raise Refused(f"the arguments are not JSON: {error}", status=400) from None
    if isinstance(value, dict):
        return [], value
    return (value, {}) if isinstance(value, list) else ([value], {})


def shown(found: dict[str, Any], offset: str = "") -> dict[str, Any]:
    """What a client sees of a job, as a message."""
    said = {name: value for name, value in found.items() if name in JOB.fields}
    for name in ("progress", "result"):
        if name in said:
            said[name] = as_json(said[name]).decode()
    return said | {"offset": offset}
