"""The grid's application in Django, as ASGI (`app`), as WSGI (`wsgi`), and with Channels in front (`channels`)."""

import asyncio
import hashlib
import os
import tempfile
from pathlib import Path

import django
from django.conf import settings

HERE = Path(__file__).parent
DATABASE = Path(tempfile.mkdtemp(prefix="fairlead-grid-")) / "db.sqlite"
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"  # the tables are made at import, in whatever loop that is
settings.configure(
    DEBUG=True, SECRET_KEY="x", ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, STATIC_URL="/static/",
    STATICFILES_DIRS=[HERE / "static"], DATA_UPLOAD_MAX_MEMORY_SIZE=None,
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(DATABASE)}},
    INSTALLED_APPS=["django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions",
                    "django.contrib.messages", "django.contrib.staticfiles"],
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware", "django.contrib.auth.middleware.AuthenticationMiddleware",
                "django.contrib.messages.middleware.MessageMiddleware", __name__ + ".reads_body"],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True, "OPTIONS": {
        "context_processors": ["django.template.context_processors.request", "django.contrib.auth.context_processors.auth",
                               "django.contrib.messages.context_processors.messages"]}}],
    LOGGING_CONFIG=None,
)  # fmt: skip
django.setup()

from django.contrib import admin  # noqa: E402
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler, StaticFilesHandler  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse  # noqa: E402
from django.urls import path  # noqa: E402

call_command("migrate", verbosity=0, run_syncdb=True)
seen = {"left": 0, "worked": 0}


def reads_body(get_response):
    def middleware(request):
        if request.path == "/twice":
            request.read = len(request.body)
        return get_response(request)

    return middleware


def upload(request):
    file = request.FILES["file"]
    data = file.read()
    return JsonResponse({"name": file.name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()})


def visits(request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return JsonResponse({"visits": request.session["visits"]})


def cookies(request):
    answer = HttpResponse("two")
    answer.set_cookie("a", "1")
    answer.set_cookie("b", "2")
    return answer


def fails(request):
    raise ValueError("the reason")


def is_async(request):
    return hasattr(request, "scope")


async def later(make):
    for piece in make():
        yield piece


def streaming(request, make, **more):
    return StreamingHttpResponse(later(make) if is_async(request) else make(), **more)


def stream(request):
    return streaming(request, lambda: (b"%d\n" % number for number in range(10)))


def sse(request):
    return streaming(request, lambda: (f"data: {number}\n\n" for number in range(3)), content_type="text/event-stream")


def endless(request):
    async def for_ever():
        try:
            while True:
                yield b"tick\n"
                await asyncio.sleep(0.01)
        finally:
            seen["left"] += 1

    def blocking():
        try:
            while True:
                yield b"tick\n" * 1000
        finally:
            seen["left"] += 1

    return StreamingHttpResponse(for_ever() if is_async(request) else blocking())


class Later(HttpResponse):
    def close(self):
        super().close()
        seen["worked"] += 1


urlpatterns = [
    path("plain", lambda request: HttpResponse("plain")),
    path("json", lambda request: JsonResponse({"answer": 42})),
    path("echo", lambda request: HttpResponse(request.body)),
    path("upload", upload),
    path("stream", stream),
    path("large", lambda request: HttpResponse(b"x" * 5_000_000)),
    path("sse", sse),
    path("endless", endless),
    path("left", lambda request: JsonResponse(seen["left"], safe=False)),
    path("background", lambda request: Later("later")),
    path("worked", lambda request: JsonResponse(seen["worked"], safe=False)),
    path("twice", lambda request: JsonResponse({"middleware": request.read, "handler": len(request.body)})),
    path("raise", fails),
    path("session", visits),
    path("cookies", cookies),
    path("admin/", admin.site.urls),
]
http = ASGIStaticFilesHandler(get_asgi_application())


async def app(scope, receive, send):
    """Django knows no lifespan."""
    assert scope["type"] == "http"
    await http(scope, receive, send)


wsgi = StaticFilesHandler(get_wsgi_application())
try:
    from channels.generic.websocket import AsyncWebsocketConsumer
    from channels.routing import ProtocolTypeRouter, URLRouter

    class Echo(AsyncWebsocketConsumer):
        async def receive(self, text_data=None, bytes_data=None):
            await self.send(text_data=text_data)

    channels = ProtocolTypeRouter({"http": http, "websocket": URLRouter([path("ws", Echo.as_asgi())])})
except ImportError:
    pass
