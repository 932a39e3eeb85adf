"""One JSON answer in each framework; imported one at a time, so each attribute is made on first use (PEP 562)."""

from typing import Any

ANSWER = {"id": 7, "name": "lead", "tags": ["fair", "fast"]}


def make_fastapi() -> Any:
    """FastAPI, its default response class."""
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/")
    async def answer() -> dict[str, Any]:
        return ANSWER

    return app


def make_starlette() -> Any:
    """Starlette with one route."""
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def answer(request: Any) -> Any:
        return JSONResponse(ANSWER)

    return Starlette(routes=[Route("/", answer)])


def make_flask() -> Any:
    """Flask, over WSGI."""
    from flask import Flask

    app = Flask(__name__)

    @app.get("/")
    def answer() -> dict[str, Any]:
        return ANSWER

    return app


MAKERS = {"fastapi_app": make_fastapi, "starlette_app": make_starlette, "flask_app": make_flask}


def __getattr__(name: str) -> Any:
    """Make the application that was asked for."""
    if name not in MAKERS:
        raise AttributeError(name)
    app = globals()[name] = MAKERS[name]()
    return app
