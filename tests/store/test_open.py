"""From URLs to a store: what is missing or promises too little is said at boot, with what would be right."""

import asyncio

import pytest

from fairlead.core.errors import ConfigError
from fairlead.store.contract import Ack, TooMuch
from fairlead.store.open import default_url, make_engine, open_store, without_secrets


def test_one_url_is_all_three():
    async def main():
        store = await open_store("memory:")
        assert len(store.engines) == 1
        assert store.declarations["memory:"].ack is Ack.MEMORY
        assert await store.now() > 1.7e9
        await store.close()

    asyncio.run(main())


def test_asking_for_more_than_an_engine_promises_fails_and_says_what_would_be_right():
    with pytest.raises(TooMuch, match=r'store.ack = "node".*memory.*promises "memory" only') as caught:
        asyncio.run(open_store("memory:", ack="node"))
    assert 'write store.ack = "memory"' in caught.value.hint


@pytest.mark.parametrize("url", ["nats://localhost", "amqp://x", "kafka://x"])
def test_an_engine_that_is_to_come_says_which_are_there(url):
    with pytest.raises(ConfigError) as caught:
        make_engine(url)
    assert "sqlite" in caught.value.hint


def test_an_unknown_scheme_names_the_known():
    with pytest.raises(ConfigError) as caught:
        make_engine("mysql://localhost")
    assert "postgresql" in caught.value.hint


def test_a_missing_driver_names_its_extra(monkeypatch):
    monkeypatch.setitem(__import__("fairlead.store.open").store.open.ENGINES, "redis", ("no_such_driver", "redis"))
    with pytest.raises(ConfigError) as caught:
        make_engine("redis://localhost")
    assert caught.value.hint == "pip install 'fairlead[redis]'"
    assert "no_such_driver" in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:secret@host:6379/0?password=x", "redis://host:6379/0"),
        ("postgresql://me:secret@[::1]:5432/db", "postgresql://me@[::1]:5432/db"),
        ("sqlite:////var/lib/x.db?a=b", "sqlite:////var/lib/x.db"),
        ("memory:", "memory:"),
    ],
)
def test_a_shown_url_has_no_secret(url, shown):
    assert without_secrets(url) == shown


def test_the_default_is_sqlite_in_the_state_folder():
    assert default_url({"XDG_STATE_HOME": "/s"}) == "sqlite:////s/fairlead/fairlead.db"
