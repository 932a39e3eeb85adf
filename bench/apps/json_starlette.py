"""One JSON answer in Starlette, through one route."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def answer(request: Request) -> JSONResponse:
    """The answer all frameworks here give."""
    return JSONResponse({"id": 7, "name": "lead", "tags": ["fair", "fast"]})


app = Starlette(routes=[Route("/", answer)])
