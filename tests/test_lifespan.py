"""serve.lifespan and serve.loader: an application's start and end, and finding it by name."""

import asyncio
import sys

import pytest

from fairlead.core.errors import AppError
from fairlead.serve.lifespan import Lifespan
from fairlead.serve.loader import load


def run(scenario):
    return asyncio.run(asyncio.wait_for(scenario(), 10))


async def good(scope, receive, send):
    assert scope["type"] == "lifespan"
    assert (await receive())["type"] == "lifespan.startup"
    scope["state"]["pool"] = "open"
    await send({"type": "lifespan.startup.complete"})
    assert (await receive())["type"] == "lifespan.shutdown"
    scope["state"]["pool"] = "closed"
    await send({"type": "lifespan.shutdown.complete"})


def test_startup_fills_the_state_and_shutdown_ends_the_task():
    async def scenario():
        span = Lifespan(good)
        state = await span.start()
        assert state == {"pool": "open"} and span.supported
        await span.stop()
        assert state == {"pool": "closed"} and span.task.done()
        await span.stop()

    run(scenario)


async def knows_only_http(scope, receive, send):
    assert scope["type"] == "http"


async def returns(scope, receive, send):
    return


async def answers_everything(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


@pytest.mark.parametrize("app", [knows_only_http, returns, answers_everything])
def test_auto_goes_on_without_an_app_that_does_not_know_lifespan_and_on_does_not(app):
    async def scenario():
        span = Lifespan(app)
        assert await span.start() == {} and not span.supported
        await span.stop()
        with pytest.raises(AppError):
            await Lifespan(app, "on").start()
        off = Lifespan(app, "off")
        assert await off.start() == {} and off.task is None
        await off.stop()

    run(scenario)


def test_a_failed_startup_says_the_apps_own_message():
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database at db:5432"})

    async def scenario():
        with pytest.raises(AppError, match="startup failed: no database at db:5432"):
            await Lifespan(app).start()

    run(scenario)


def test_an_app_that_raises_after_its_first_word_fails_even_with_auto():
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.done"})

    async def scenario():
        with pytest.raises(AppError, match=r"lifespan\.startup\.done"):
            await Lifespan(app).start()

    run(scenario)


def test_an_app_that_raises_in_a_real_startup_is_served_without_it_only_when_it_said_nothing():
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        raise ValueError("cannot close")

    async def scenario():
        span = Lifespan(app)
        await span.start()
        with pytest.raises(AppError, match="raised during shutdown: ValueError: cannot close"):
            await span.stop()

    run(scenario)


def test_startup_and_shutdown_have_a_deadline():
    async def never(scope, receive, send):
        await asyncio.Event().wait()

    async def stuck(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await asyncio.Event().wait()

    async def scenario():
        span = Lifespan(never, startup=0.01)
        with pytest.raises(AppError, match="startup took longer than"):
            await span.start()
        span = Lifespan(stuck, shutdown=0.01)
        await span.start()
        with pytest.raises(AppError, match="shutdown took longer than"):
            await span.stop()
        assert span.task.done()

    run(scenario)


SOURCES = {
    "shop_good.py": """
async def application(scope, receive, send): pass
def make(): return application
def wsgi(environ, start_response): return []
class Thing:
    async def __call__(self, scope, receive, send): pass
thing = Thing()
class Box: inner = thing
number = 7
def broken(): raise ValueError("no settings")
""",
    "shop_missing.py": "import surely_not_installed_here\n",
    "shop_raises.py": "def f():\n    raise RuntimeError('bad setting')\nf()\n",
    "shop_syntax.py": "def f(:\n",
    "shop_exits.py": "import sys\nsys.exit('no key')\n",
    "shop_pack/__init__.py": "",
    "shop_pack/main.py": "async def app(scope, receive, send): pass\n",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name, text in SOURCES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield str(tmp_path)
    for name in [name for name in sys.modules if name.startswith("shop_")]:
        del sys.modules[name]


def test_an_application_is_found_by_module_and_attribute(folder):
    assert load("shop_good:application", folder).__name__ == "application"
    assert load("shop_good:make", folder, factory=True).__name__ == "application"
    assert type(load("shop_good:Box.inner", folder)).__name__ == "Thing"
    assert load("shop_pack.main:app", folder).__name__ == "app"


@pytest.mark.parametrize(
    "target, factory, message, hint",
    [
        ("shop_good", False, "does not name an application", "module:attribute"),
        ("shop_good.py:application", False, "is a file", '"shop_good:application"'),
        ("shop_god:application", False, 'no module "shop_god"', 'did you mean "shop_good"'),
        ("shop_pack.mian:app", False, 'no module "shop_pack.mian"', 'did you mean "shop_pack.main"'),
        ("shop_good.main:app", False, 'no module "shop_good.main"', "not a package"),
        ("shop_good:aplication", False, 'no attribute "aplication"', 'did you mean "application"'),
        ("shop_good:xyz", False, 'no attribute "xyz"', "it has application, wsgi, thing"),
        ("shop_good:number", False, "not an application", "int"),
        ("shop_good:make", False, "looks like a factory", "--factory"),
        ("shop_good:number", True, "no factory", "int"),
        ("shop_good:broken", True, "raised ValueError: no settings", ""),
        ("shop_missing:app", False, "raised while it was imported: ModuleNotFoundError", ""),
        ("shop_raises:app", False, "RuntimeError: bad setting (shop_raises.py:2)", ""),
        ("shop_syntax:app", False, "(shop_syntax.py:1)", ""),
        ("shop_exits:app", False, "SystemExit: no key", ""),
    ],
)
def test_what_is_wrong_is_said_with_what_would_be_right(folder, target, factory, message, hint):
    with pytest.raises(AppError) as caught:
        load(target, folder, factory)
    assert message in str(caught.value)
    assert hint in caught.value.hint


def test_the_cause_has_the_modules_own_traceback(folder):
    with pytest.raises(AppError) as caught:
        load("shop_raises:app", folder)
    trace = caught.value.__cause__.__traceback__
    assert trace.tb_frame.f_code.co_filename.endswith("shop_raises.py")
