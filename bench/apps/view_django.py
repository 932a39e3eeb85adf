"""One plain view in Django with the middleware a new project has, less sessions and users: over ASGI (async view) and WSGI."""

from typing import Any

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="of no use to anybody",
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
)
django.setup()

ANSWER: dict[str, Any] = {"id": 7, "name": "lead", "tags": ["fair", "fast"]}


async def awaited(request: HttpRequest) -> JsonResponse:
    """The answer all frameworks here give."""
    return JsonResponse(ANSWER)


def plain(request: HttpRequest) -> JsonResponse:
    """The same from a view that is no coroutine."""
    return JsonResponse(ANSWER)


urlpatterns = [path("", awaited), path("plain", plain)]
asgi = get_asgi_application()
wsgi = get_wsgi_application()
