"""Sessions: where they live, what a restart does to them, ids that turn, revocation, and two requests at once."""

import asyncio
import json

import pytest

from fairlead.core.errors import AppError, ConfigError
from fairlead.run.load import loads
from fairlead.serve.sessionkeeps import Kept, Local, Sealed
from fairlead.serve.sessions import Cookie, Sessions, here, revoke_sessions
from fairlead.store.open import open_store

SECRET = "s" * 32
OLD = "o" * 32


class Clock:
    def __init__(self):
        self.now = 1_000_000.0

    def __call__(self):
        return self.now


async def keep_of(where, clock, keep=100.0, **options):
    if where == "worker":
        return Kept(Local(clock=clock), keep, clock=clock, **options)
    if where == "store":
        return Kept((await open_store("memory:")).state, keep, clock=clock, **options)
    return Sealed([SECRET], keep, Local(clock=clock) if where == "revocable" else None, clock)


class Browser:
    """Keeps the cookie, and asks an application that is one function of the session."""

    def __init__(self, sessions, scheme="https"):
        self.sessions, self.cookie, self.scheme, self.said = sessions, "", scheme, []

    async def ask(self, act, late=None):
        async def app(scope, receive, send):
            scope["result"] = act(scope["session"])
            await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"y")]})
            if late is not None:
                late(scope["session"])
            await send({"type": "http.response.body"})

        heard = []

        async def send(message):
            heard.append(message)

        headers = [(b"cookie", b"a=b; session=" + self.cookie.encode())] if self.cookie else []
        scope = {"type": "http", "scheme": self.scheme, "headers": headers}
        # the session is set on the scope of the application, which is this very one
        await self.sessions.asgi(app)(scope, None, send)
        self.said = heard[0]["headers"]
        for name, value in self.said:
            if name == b"set-cookie":
                self.cookie = value.decode().split(";")[0].partition("=")[2]
        return scope["result"]


def count(session):
    session["n"] = session.get("n", 0) + 1
    return session["n"]


def look(session):
    return dict(session)


def play(story, where, **options):
    async def run():
        clock = Clock()
        keep = await keep_of(where, clock, **options)
        async with asyncio.timeout(20):
            await story(Sessions(keep, Cookie(keep=keep.keep)), keep, clock)

    asyncio.run(run())


EVERYWHERE = ["worker", "store", "token", "revocable"]


@pytest.mark.parametrize("where", EVERYWHERE)
def test_what_is_put_there_is_there_the_next_time_and_somebody_else_has_none_of_it(where):
    async def story(sessions, keep, clock):
        one, two = Browser(sessions), Browser(sessions)
        assert [await one.ask(count) for _ in range(3)] == [1, 2, 3]
        assert await two.ask(count) == 1
        assert await one.ask(look) == {"n": 3} and (b"vary", b"cookie") in one.said

        def nested(session):
            session.setdefault("cart", []).append(len(session.get("cart", [])))

        await one.ask(nested)
        await one.ask(nested)
        assert await one.ask(look) == {"n": 3, "cart": [0, 1]}

    play(story, where)


@pytest.mark.parametrize("where", EVERYWHERE)
def test_who_has_nothing_gets_no_cookie_and_an_empty_session_loses_it(where):
    async def story(sessions, keep, clock):
        page = Browser(sessions)
        await page.ask(look)
        assert page.said == [(b"x", b"y")]
        await page.ask(count)
        cookie = page.cookie
        await page.ask(lambda session: session.clear())
        assert page.cookie == "" and b"Max-Age=0" in dict(page.said)[b"set-cookie"]
        if where != "token":  # a token without a store cannot be taken back
            page.cookie = cookie
            assert await page.ask(look) == {}

    play(story, where)


def test_the_cookie_is_as_safe_as_it_can_be():
    async def story(sessions, keep, clock):
        page = Browser(sessions)
        await page.ask(count)
        said = dict(page.said)[b"set-cookie"].decode()
        assert said.endswith("; Path=/; Max-Age=100; HttpOnly; SameSite=Lax; Secure") and len(page.cookie) == 43
        plain = Browser(sessions, "http")
        await plain.ask(count)
        assert b"Secure" not in dict(plain.said)[b"set-cookie"]
        names = list(keep.state.entries)
        assert len(names) == 2 and not any(page.cookie in name for name in names)

    play(story, "worker")
    assert Cookie("s", samesite="none", domain="a.example").written("v", False).endswith("SameSite=None; Domain=a.example; Secure")


@pytest.mark.parametrize("where", EVERYWHERE)
def test_an_id_that_we_did_not_give_out_is_no_session(where):
    async def story(sessions, keep, clock):
        for forged in ("x" * 43, "gAAAAABmAAAA", "%00", "ä"):
            page = Browser(sessions)
            page.cookie = forged.encode("utf-8", "replace").decode("latin-1")
            assert await page.ask(look) == {} and page.cookie == ""
            page.cookie = "x" * 43
            await page.ask(count)
            assert page.cookie != "x" * 43

    play(story, where)


@pytest.mark.parametrize("where", EVERYWHERE)
def test_a_login_changes_the_id_and_the_old_one_is_void(where):
    async def story(sessions, keep, clock):
        page, thief = Browser(sessions), Browser(sessions)
        await page.ask(count)
        thief.cookie = page.cookie

        def login(session):
            session.owner = "ann"
            session.rotate()

        await page.ask(login)
        assert page.cookie != thief.cookie and await page.ask(look) == {"n": 1}
        if where != "token":
            assert await thief.ask(look) == {}

    play(story, where)


@pytest.mark.parametrize("where", ["worker", "store", "revocable"])
def test_all_sessions_of_somebody_are_revoked_and_nobody_elses(where):
    async def story(sessions, keep, clock):
        pages = [Browser(sessions) for _ in range(3)]

        def login(name):
            def act(session):
                session["in"] = True
                session.owner = name
                session.rotate()

            return act

        for page, name in zip(pages, ("ann", "ann", "bob")):
            await page.ask(login(name))
        here.clear()
        here.add(keep)
        ended = await revoke_sessions("ann")
        assert ended == (0 if where == "revocable" else 2)
        assert [await page.ask(look) for page in pages] == [{}, {}, {"in": True}]
        clock.now += 1
        await pages[0].ask(login("ann"))  # and may come in again
        assert await pages[0].ask(look) == {"in": True}

    play(story, where)


@pytest.mark.parametrize("where", EVERYWHERE)
def test_an_unused_session_ends_and_a_used_one_goes_on(where):
    async def story(sessions, keep, clock):
        page = Browser(sessions)
        await page.ask(count)
        for _ in range(6):
            clock.now += 50
            assert await page.ask(look) == {"n": 1}
        clock.now += 101
        assert await page.ask(look) == {}

    if where != "store":  # the store's clock is its own
        play(story, where)


def test_two_requests_at_once_both_keep_what_they_changed():
    async def story(sessions, keep, clock):
        page = Browser(sessions)
        await page.ask(lambda session: session.update(a=1, b=1, c=1))
        one, two = await keep.load(page.cookie), await keep.load(page.cookie)
        one["a"] = 2
        del two["b"]
        two["d"] = 4
        assert await keep.save(one) is None and await keep.save(two) is None
        assert await page.ask(look) == {"a": 2, "c": 1, "d": 4}

    play(story, "worker")
    play(story, "store")


def test_what_was_revoked_meanwhile_is_not_brought_back():
    async def story(sessions, keep, clock):
        page = Browser(sessions)
        await page.ask(count)
        under_way = await keep.load(page.cookie)
        await keep.drop(await keep.load(page.cookie))
        under_way["n"] = 7
        assert await keep.save(under_way) == ""
        assert await page.ask(look) == {}

    play(story, "worker")
    play(story, "store")


def test_an_id_turns_by_itself_and_requests_under_way_do_not_lose_it():
    async def story(sessions, keep, clock):
        page, beside = Browser(sessions), Browser(sessions)
        await page.ask(count)
        beside.cookie = page.cookie
        clock.now += 11
        await page.ask(look)
        assert page.cookie != beside.cookie
        assert await beside.ask(count) == 2 and not any(name == b"set-cookie" for name, _ in beside.said)
        assert await page.ask(look) == {"n": 2}
        clock.now += 31
        assert await beside.ask(look) == {}

    play(story, "worker", turn=10.0)


def test_changes_behind_the_head_are_kept_where_they_can_be():
    async def story(sessions, keep, clock):
        page = Browser(sessions)
        await page.ask(count)
        await page.ask(look, late=count)
        await page.ask(look, late=lambda session: session.rotate())
        assert await page.ask(look) == {"n": 2 if keep.lasting else 1}
        await page.ask(look, late=lambda session: session.destroy())
        assert await page.ask(look) == ({} if keep.lasting else {"n": 1})

    play(story, "worker")
    play(story, "token")


def test_a_new_secret_seals_and_the_old_one_still_opens():
    async def run():
        clock = Clock()
        before = Browser(Sessions(Sealed([OLD], 100, None, clock), Cookie()))
        await before.ask(count)
        after = Browser(Sessions(Sealed([SECRET, OLD], 100, None, clock), Cookie()))
        after.cookie = before.cookie
        assert await after.ask(look) == {"n": 1} and after.cookie != before.cookie
        last = Browser(Sessions(Sealed([SECRET], 100, None, clock), Cookie()))
        last.cookie = before.cookie
        assert await last.ask(look) == {}
        last.cookie = after.cookie
        assert await last.ask(look) == {"n": 1}

    asyncio.run(run())
    for wrong in ([], ["short"]):
        with pytest.raises(ConfigError, match="at least 32 characters"):
            Sealed(wrong, 100)


def test_what_does_not_fit_or_is_no_json_says_so():
    async def story(sessions, keep, clock):
        page = Browser(sessions)
        with pytest.raises(AppError, match="no JSON value"):
            await page.ask(lambda session: session.update(a=object()))
        with pytest.raises(AppError, match="keys are texts"):
            await page.ask(lambda session: session.update({1: 2}))
        with pytest.raises(AppError, match="too large"):
            await page.ask(lambda session: session.update(a="x" * 70_000))

    play(story, "worker")
    play(story, "token")


def test_one_workers_memory_is_bounded():
    async def run():
        state = Local(10)
        for n in range(100):
            await state.put_if(f"k{n}", b"", 0)
        assert list(state.entries) == [f"k{n}" for n in range(90, 100)]

    asyncio.run(run())


def test_a_wsgi_application_has_sessions_in_its_environment():
    async def run():
        loop = asyncio.get_running_loop()
        sessions = Sessions(Kept(Local(), 100), Cookie())
        answers = []

        def app(environ, start_response):
            count(environ["fairlead.session"])
            start_response("200 OK", [("x", "y")])
            return [json.dumps(environ["fairlead.session"]).encode()]

        def start_response(status, headers, exc_info=None):
            answers.append(dict(headers))

        called = sessions.wsgi(app, loop)
        first = await asyncio.to_thread(called, {"wsgi.url_scheme": "http"}, start_response)
        cookie = answers[0]["set-cookie"].split(";")[0]
        second = await asyncio.to_thread(called, {"HTTP_COOKIE": cookie}, start_response)
        assert (first, second) == ([b'{"n": 1}'], [b'{"n": 2}']) and "set-cookie" not in answers[1]

    asyncio.run(run())


CONFIG = """
[server]
workers = 2
[[listener]]
bind = "127.0.0.1:0"
[[route]]
app = "a:b"
[[route.filter]]
session = { %s }
"""


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ('where = "token"', 'where = "token" needs secrets'),
        ('where = "store", secrets = "env:SECRET"', 'secrets and revocable are for where = "token"'),
        ('where = "moon"', "moon"),
        ('cookie = "__Host-s", domain = "a.example"', 'a "__Host-" cookie has no domain'),
        ('where = "token", secrets = "env:SECRET", turn = "1h"', "turn is for sessions with an id"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(options, says):
    with pytest.raises(ConfigError, match=says):
        loads(CONFIG % options, "x.toml")
