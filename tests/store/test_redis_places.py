"""Redis elsewhere: behind TLS, on another node of a cluster than the URL names, and on a replica that took over."""

import asyncio
import subprocess
from contextlib import ExitStack

import pytest
import servers
from engines import missing, redis_server
from redisgroups import cluster, pair, promote, until, words

from fairlead.store.contract import Ack, Gap, NewEvent, StoreError, TooMuch, TopicConfig
from fairlead.store.open import make_engine, open_engine


def appended(engine, topic, *values):
    """Append, making the topic."""
    return engine.log.append(topic, [NewEvent(value) for value in values], create=TopicConfig())


async def there(engine, topic):
    """Everything in a topic."""
    return [event.data for event in (await engine.log.read(topic, None)).events]


def certificate(folder, name, *more):
    """A key and a certificate that signs itself."""
    names = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", *names]
    keys = ("-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem")
    subprocess.run([*command, *keys, *more], check=True, capture_output=True)


def test_over_tls_both_ends_certificates_are_checked_and_what_is_wrong_is_said_at_once(tmp_path):
    for name in ("own", "other"):
        certificate(tmp_path, name)
    port = servers.low_port()
    own = {"tls-cert-file": f"{tmp_path}/own.pem", "tls-key-file": f"{tmp_path}/own.key", "tls-ca-cert-file": f"{tmp_path}/own.pem"}

    async def refused(url, why):
        with pytest.raises(StoreError) as found:
            async with asyncio.timeout(servers.PATIENCE):
                await open_engine(url)
        assert why in f"{found.value}: {found.value.hint}"

    async def story():
        url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={tmp_path}/own.pem"
        ours = f"&ssl_certfile={tmp_path}/own.pem&ssl_keyfile={tmp_path}/own.key"
        engine, _ = await open_engine(url + ours)
        await appended(engine, "a", b"1")
        assert await there(engine, "a") == [b"1"]
        await engine.close()
        await refused(url, "?ssl_certfile=")
        await refused(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={tmp_path}/other.pem{ours}", "?ssl_ca_certs=")
        await refused(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={tmp_path}/none.pem{ours}", "No such file")

    with servers.running(redis_server(tmp_path, **{"tls-port": str(port), **own})):
        asyncio.run(story())


def test_options_that_are_none_are_said_at_once():
    wrong = {"redis://h/0?replicas=all": "how many replicas", "redis://h/0?colour=red": "colour", "redis://h:x/0": "x"}
    for url, why in wrong.items():
        with pytest.raises(StoreError) as found:
            make_engine(url)
        assert why in str(found.value)


def test_a_replica_that_is_promoted_is_found_and_each_topic_has_an_epoch_of_its_own_then(tmp_path):
    async def story(master, replica):
        where = f"127.0.0.1:{master.port},127.0.0.1:{replica.port}/0"
        with pytest.raises(TooMuch) as refused:
            await open_engine(f"redis://{where}", Ack.QUORUM)
        assert "replication is asynchronous" in refused.value.hint
        engine, declared = await open_engine(f"redis://{where}?replicas=1", Ack.NODE_FSYNC)
        assert any("waits for 1" in note for note in declared.notes)
        heard = {}
        engine.log.watch(lambda topic, last, events: heard.update({topic: last}))
        engine.log.interest("a", True)
        old = {name: (await appended(engine, name, b"1", b"2")).last for name in ("a", "b")}  # WAIT: the replica has them
        master.kill()
        promote(replica)
        async with asyncio.timeout(servers.PATIENCE):
            with pytest.raises(Gap) as gap:
                await engine.log.read("a", old["a"])
            assert gap.value.latest.epoch > old["a"].epoch
            assert await there(engine, "a") == [b"1", b"2"]
            while heard.get("a") != gap.value.latest:  # who follows hears by itself
                await asyncio.sleep(0.01)
        heads = {name: (await engine.log.head(name)).last for name in ("a", "b")}
        assert heads["a"].epoch != heads["b"].epoch
        with pytest.raises(Gap):
            await engine.log.read("b", heads["a"])
        await engine.close()

    if servers.program("redis-cli") is None:
        missing("redis-cli")
    with ExitStack() as stack:
        asyncio.run(story(*pair(stack, tmp_path)))


def test_a_cluster_is_entered_by_any_of_its_nodes(tmp_path):
    async def story(bare, owner):
        engine, _ = await open_engine(bare.url)
        await appended(engine, "a", b"1", b"2")
        assert await there(engine, "a") == [b"1", b"2"]
        assert words(owner, "DBSIZE") != "0"
        await engine.close()

    with ExitStack() as stack:
        bare, owner = cluster(stack, tmp_path, 2, bare=1)
        until(lambda: f"127.0.0.1:{owner.port}" in bare.ask("GET", "x"))
        asyncio.run(story(bare, owner))
