"""The same as with_starlette, in Django (ASGI), in one file. Django knows no lifespan, so there is no state."""

import asyncio
import hashlib

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

settings.configure(
    SECRET_KEY="only for tests", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], DATA_UPLOAD_MAX_MEMORY_SIZE=None,
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    LOGGING={
        "version": 1, "disable_existing_loggers": False,
        "handlers": {"err": {"class": "logging.StreamHandler"}}, "root": {"handlers": ["err"]},
    },
)  # fmt: skip
SEEN = {"background": 0, "left": 0}
TASKS = set()


def state(request):  # not async: Django runs it in a thread
    return JsonResponse({"pool": "open", "scheme": request.scheme, "host": request.META["REMOTE_ADDR"]})


async def echo(request):
    digest = hashlib.sha256(request.body).hexdigest()
    return JsonResponse({"size": len(request.body), "sha256": digest, "type": request.headers.get("content-type")})


def upload(request):
    file = request.FILES["file"]
    return JsonResponse({"name": file.name, "size": len(file.read())})


async def stream(request):
    async def parts():
        for number in range(int(request.GET["n"])):
            yield b"%08d\n" % number * 100

    return StreamingHttpResponse(parts(), content_type="text/plain")


async def failing(request):
    raise ValueError("the reason stays in the log")


async def failing_late(request):
    async def parts():
        yield b"first"
        await asyncio.sleep(0)
        raise ValueError("in the middle")

    return StreamingHttpResponse(parts())


async def background(request):
    async def later():
        SEEN["background"] += 1

    task = asyncio.create_task(later())
    TASKS.add(task)
    return HttpResponse("accepted", status=202)


async def endless(request):
    async def parts():
        try:
            while True:
                yield b"tick\n"
                await asyncio.sleep(0.01)
        finally:
            SEEN["left"] += 1

    return StreamingHttpResponse(parts())


async def seen(request):
    return JsonResponse(SEEN)


class Timed:
    """Django does not show the scope to views; a wrapper around the application does."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http" and scope["path"] == "/timed":
            with scope["extensions"]["fairlead.journey"].step("sql"):
                await asyncio.sleep(0)
        await self.app(scope, receive, send)


async def timed(request):
    return HttpResponse("timed")


urlpatterns = [
    path("state", state), path("echo", echo), path("upload", upload), path("stream", stream), path("raise", failing),
    path("late", failing_late), path("background", background), path("endless", endless), path("seen", seen),
    path("timed", timed),
]  # fmt: skip
app = Timed(get_asgi_application())
