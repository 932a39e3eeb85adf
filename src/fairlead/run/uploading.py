"""What an `upload` route is made of: the storage, the uploads, and what a whole one feeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fairlead.core.errors import AppError
from fairlead.core.handler import Handler
from fairlead.run import answers as a
from fairlead.run import config as c
from fairlead.serve.loader import found_at
from fairlead.serve.uploadcounts import Counts
from fairlead.serve.uploaddisk import Disk
from fairlead.serve.uploadfeeds import Feeds, before_of
from fairlead.serve.uploadhttp import UploadRoute
from fairlead.serve.uploads import UploadOptions, Uploads
from fairlead.serve.uploads3 import S3
from fairlead.serve.uploadstorage import Storage

if TYPE_CHECKING:
    from fairlead.run.build import Builder


async def make_uploads(builder: Builder, settings: c.Route) -> Handler:
    """The handler. A directory that cannot be used is an error now; a remote storage may be away, and is asked when needed."""
    given = settings.upload
    assert given is not None and builder.realtime is not None
    scope = f"{settings.path} {','.join(settings.host)}"
    realtime = builder.realtime

    def make() -> UploadRoute:
        storage: Storage = S3(given.dir, endpoint=given.endpoint, region=given.region) if is_s3(given) else Disk(given.dir)
        options = UploadOptions(given.max, given.keep, given.kept, given.quota, given.total, given.unfinished)
        uploads = Uploads(realtime.store, storage, options, scope)
        if isinstance(storage, S3):
            storage.save = uploads.write
        depth = len([part for part in settings.path.removesuffix("/*").split("/") if part])
        return UploadRoute(uploads, depth, builder.loop)

    route: UploadRoute = builder.state.take(("upload", replace(given, app=None), scope), make)
    route.uploads.counts = realtime.uploads.setdefault(settings.path or "/*", Counts())
    route.forms = given.app is None
    before = function(given.before, given)
    route.uploads.before = before_of(before) if before is not None else None
    route.uploads.feed = await make_feeds(builder, settings, given, route.uploads.storage)
    if not is_s3(given):
        await route.uploads.start()
    return route


def is_s3(given: a.Upload) -> bool:
    """Where its bytes go."""
    return given.dir.startswith("s3://")


def function(target: str, given: a.Upload) -> Callable[..., Any] | None:
    """A function of the user's. AppError."""
    if not target:
        return None
    found = found_at(target, given.module_dir)
    if not callable(found):
        raise AppError(f'"{target}" is not callable: it is a {type(found).__name__}')
    return found  # type: ignore[no-any-return]


async def make_feeds(builder: Builder, settings: c.Route, given: a.Upload, storage: Storage) -> Feeds:
    """Those that it feeds."""
    realtime = builder.realtime
    assert realtime is not None
    for one in builder.building.fed:
        if one.job is not None and one.job.run == given.job:
            realtime.job(one)  # where its code runs, it is known by this
    app = None
    if given.app is not None:
        asking = replace(settings, upload=None, app=given.app, filters=())
        app = builder.hop(asking) if builder.hop is not None else await builder.app(asking)
    return Feeds(
        storage, done=function(given.done, given), topic=given.publish, log=realtime.store.log,
        jobs=realtime.jobs if given.job else None, kind=given.job, base=job_base(builder.building, given.job), app=app,
    )  # fmt: skip


def job_base(config: c.Config, run: str) -> str:
    """The path of the job route that runs the same function, "" when there is none."""
    for route in config.routes:
        if run and route.job is not None and route.job.run == run and "{" not in route.path:
            return "/" + "/".join(part for part in route.path.removesuffix("/*").split("/") if part)
    return ""
