"""Webhooks of a topic over HTTP: making, showing, changing, replaying them. What they are is in `hooks`, delivering in `push`.

    GET  …/webhooks          all of them            POST …/webhooks  {"url", "types", "kind", "secret", "after", "envelope", "id"}
    GET  …/webhooks/W        one                    PATCH …/webhooks/W  {"url", "types", "state"}      DELETE …/webhooks/W   204
    GET  …/webhooks/W/attempts   the last attempts, newest first          GET …/webhooks/W/dead   what was given up
    POST …/webhooks/W:rotate   a new key            POST …/webhooks/W:replay {"after"}            POST …/webhooks/W:redrive {"ids"}
"""

from __future__ import annotations

from typing import Any

from fairlead.core.aio import Call
from fairlead.core.errors import Refused
from fairlead.serve.hooks import Hooks
from fairlead.serve.jsontext import clean
from fairlead.serve.topicgroups import given, told
from fairlead.serve.topicwords import SECURITY


async def answer(hooks: Hooks, call: Call, topic: str, rest: str) -> None:
    """What stands behind `…/webhooks`."""
    request: Any = call.request
    method = request.method
    path, _, word = rest.removeprefix("webhooks").strip("/").partition(":")
    name, _, part = path.partition("/")
    if not name and method == "GET":
        await told(call, {"webhooks": [one.shown() for one in await hooks.listed(topic)]})
    elif not name and method == "POST":
        hook = await hooks.make(topic, await given(call), str(getattr(call.exchange, "principal", None) or ""))
        where = request.target.partition(b"?")[0].rstrip(b"/") + b"/" + hook.id.encode()
        await told(call, hook.shown(secrets=True), 201, [(b"location", where)])
    elif name and word and method == "POST":
        await verb(hooks, call, topic, name, word)
    elif name and part == "attempts" and method == "GET":
        await told(call, {"attempts": await hooks.attempts(topic, name)})
    elif name and part == "dead" and method == "GET":
        hook = await hooks.get(topic, name)
        dead = await hooks.store.leases.dead(hook.name)
        await told(call, {"dead": [{"id": d.id, "attempts": d.attempts, "reason": d.reason, "at": d.at} for d in dead]})
    elif name and not part and method == "GET":
        await told(call, (await hooks.get(topic, name)).shown())
    elif name and not part and method == "PATCH":
        await told(call, (await hooks.patch(topic, name, await given(call))).shown())
    elif name and not part and method == "DELETE":
        await hooks.delete(topic, name)
        await call.respond(204, b"", list(SECURITY))
    else:
        raise Refused("GET and POST …/webhooks, GET, PATCH and DELETE …/webhooks/W are here", status=405)


async def verb(hooks: Hooks, call: Call, topic: str, name: str, word: str) -> None:
    """rotate, replay, redrive."""
    said = await given(call)
    if word == "rotate":
        await told(call, (await hooks.rotate(topic, name, said)).shown(secrets=True))
    elif word == "replay":
        await hooks.replay(topic, name, said.get("after", "-1"))
        await told(call, (await hooks.get(topic, name)).shown())
    elif word == "redrive":
        hook = await hooks.get(topic, name)
        ids = said.get("ids")
        done = await hooks.store.leases.redrive(hook.name, [clean(one, 1024) for one in ids] if isinstance(ids, list) else None)
        await hooks.tell()
        await told(call, {"done": done})
    else:
        raise Refused(f"there is no :{word}", status=404, hint="rotate, replay, redrive")
