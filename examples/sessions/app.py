"""A visit counter with a login, the same application three times: its sessions live in a worker, in the store, and in the cookie.

    SESSION_SECRET=$(python -c 'import secrets; print(secrets.token_urlsafe(32))') fairlead run examples/sessions/fairlead.toml

    curl -b jar -c jar http://127.0.0.1:8000/worker/     again and again; then kill -9 the worker, and once more
    curl -b jar -c jar http://127.0.0.1:8000/store/
    curl -b jar -c jar http://127.0.0.1:8000/token/
"""

import os

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

import fairlead


async def visit(request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return shown(request)


async def login(request):
    session = request.session
    session.owner = request.query_params.get("name", "ann")
    session.rotate()  # whoever knew the id from before does not know the one that is logged in
    return shown(request)


async def logout(request):
    request.session.destroy()
    return shown(request)


async def logout_everywhere(request):
    return JSONResponse({"ended": await fairlead.revoke_sessions(request.session.owner)})


def shown(request):
    session = request.session
    return JSONResponse({"visits": session.get("visits", 0), "who": session.owner, "worker": os.getpid()})


words = [("/login", login), ("/logout", logout), ("/logout-everywhere", logout_everywhere), ("/", visit)]
app = Starlette(routes=[Route(f"/{{where}}{path}", act) for path, act in words])
