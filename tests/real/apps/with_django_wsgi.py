"""Django's WSGI handler, unchanged, in one file."""

import hashlib
import time

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

settings.configure(
    SECRET_KEY="only for tests", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], DATA_UPLOAD_MAX_MEMORY_SIZE=None,
    MIDDLEWARE=["django.middleware.common.CommonMiddleware", "django.contrib.sessions.middleware.SessionMiddleware"],
    INSTALLED_APPS=["django.contrib.sessions"],
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    LOGGING={
        "version": 1, "disable_existing_loggers": False,
        "handlers": {"err": {"class": "logging.StreamHandler"}}, "root": {"handlers": ["err"]},
    },
)  # fmt: skip
SEEN = {"teardown": 0, "closed": 0}


def state(request):
    meta = request.META
    return JsonResponse(
        {"scheme": request.scheme, "host": meta["REMOTE_ADDR"], "root": meta["SCRIPT_NAME"], "path": request.path_info}
    )


def echo(request):
    digest = hashlib.sha256(request.body).hexdigest()
    return JsonResponse({"size": len(request.body), "sha256": digest, "type": request.content_type})


def upload(request):
    file = request.FILES["file"]
    return JsonResponse({"name": file.name, "size": len(file.read())})


def stream(request):
    def parts():
        try:
            for number in range(int(request.GET["n"])):
                yield b"%08d\n" % number * 100
        finally:
            SEEN["closed"] += 1

    return StreamingHttpResponse(parts(), content_type="text/plain")


def file(request):
    return FileResponse(open(__file__, "rb"), content_type="text/plain")


def fails(request):
    raise ValueError("the reason stays in the log")


def fails_late(request):
    def parts():
        yield b"first"
        raise ValueError("in the middle")

    return StreamingHttpResponse(parts())


def count(request):
    request.session["count"] = request.session.get("count", 0) + 1
    return JsonResponse({"count": request.session["count"]})


def sleep(request):
    time.sleep(float(request.GET["s"]))
    return HttpResponse("slept")


def seen(request):
    return JsonResponse(SEEN)


urlpatterns = [
    path("", state), path("echo", echo), path("upload", upload), path("stream", stream), path("file", file),
    path("fails", fails), path("fails-late", fails_late), path("count", count), path("sleep", sleep), path("seen", seen),
]  # fmt: skip
app = get_wsgi_application()
