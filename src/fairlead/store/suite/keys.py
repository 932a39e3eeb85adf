"""Keys: what `contract.State` promises, a check for each sentence."""

from __future__ import annotations

import asyncio

from ..contract import Conflict, State
from .kit import Bench, check, raises, same, soon, true


@check("state")
async def a_key_holds_what_was_put(it: Bench) -> None:
    """Get, put, delete."""
    key = it.name("k")
    same(await it.state.get(key), None)
    entry = await it.state.put_if(key, b"\x00\xff", 0)
    same(await it.state.get(key), entry)
    same((entry.value, entry.expires, entry.due), (b"\x00\xff", None, None))
    same(await it.state.delete_if(key, entry.version), True)
    same(await it.state.get(key), None)
    same(await it.state.delete_if(key), False, "deleting what is not there")
    same((await it.state.put_if(key, b"", None)).value, b"", "an empty value is a value")
    same((await it.state.get(key)) is None, False)


@check("state")
async def only_the_right_version_changes_it(it: Bench) -> None:
    """Compare and set; Conflict says what is there."""
    key = it.name("k")
    conflict = await raises(Conflict, it.state.put_if(key, b"x", 5), "a version of nothing")
    same(conflict.entry, None)
    first = await it.state.put_if(key, b"1", 0)
    conflict = await raises(Conflict, it.state.put_if(key, b"2", 0), "0 means that there is none")
    same(conflict.entry, first)
    second = await it.state.put_if(key, b"2", first.version)
    true(second.version > first.version, "versions grow")
    conflict = await raises(Conflict, it.state.put_if(key, b"3", first.version), "an old version")
    same(conflict.entry, second)
    conflict = await raises(Conflict, it.state.delete_if(key, first.version), "deleting an old version")
    same(conflict.entry, second)
    third = await it.state.put_if(key, b"3", None)
    same(await it.state.get(key), third)
    await it.state.delete_if(key, None)
    fourth = await it.state.put_if(key, b"4", 0)
    true(fourth.version > third.version, "versions grow over a deletion")
    await raises(Conflict, it.state.put_if(key, b"5", third.version), "a version from before the deletion")


@check("state")
async def one_of_many_wins(it: Bench) -> None:
    """Concurrency: no update is lost."""
    key, other = it.name("k"), await it.more()
    assert other.state is not None
    states: list[State] = [it.state, other.state]

    async def add(state: State) -> None:
        for _ in range(5):
            while True:
                entry = await state.get(key)
                n = int(entry.value) if entry is not None else 0
                try:
                    await state.put_if(key, b"%d" % (n + 1), entry.version if entry is not None else 0)
                    break
                except Conflict:
                    await asyncio.sleep(0)

    await asyncio.gather(*(add(states[w % 2]) for w in range(6)))
    entry = await it.state.get(key)
    same(entry.value if entry is not None else None, b"30")


@check("state")
async def a_key_expires(it: Bench) -> None:
    """`ttl`, which the next put sets anew; an expired key is as if it had never been, except for its version."""
    key, stays = it.name("k"), it.name("k")
    before = await it.engine.now()
    entry = await it.state.put_if(key, b"x", 0, ttl=0.5)
    after = await it.engine.now()
    expires = entry.expires or 0.0
    true(
        before + 0.49 <= expires <= after + 0.51,
        f"expires is {expires}, right would be 0.5 s after {before} to {after}",
    )
    await it.state.put_if(stays, b"x", 0, ttl=0.5)
    await it.state.put_if(stays, b"y", None)
    await soon(lambda: it.state.get(key), lambda got: got is None, "a key after its ttl")
    same(await it.state.scan(key), [])
    again = await it.state.put_if(key, b"new", 0, ttl=60.0)
    true(again.version > entry.version, "versions grow over an expiry")
    same((await it.state.get(stays)) is None, False, "a put without ttl ends the ttl")


@check("state")
async def keys_are_listed_by_prefix_in_pages(it: Bench) -> None:
    """Scan; no character of a key means anything."""
    prefix = it.name("scan") + "/"
    keys = [f"{prefix}{n:02d}" for n in range(12)] + [f"{prefix}%_*?[x]'", f"{prefix}ü"]
    for key in keys:
        await it.state.put_if(key, key.encode(), 0)
    await it.state.put_if(prefix[:-1] + "0", b"", 0)
    found: list[str] = []
    while page := await it.state.scan(prefix, found[-1] if found else "", 5):
        true(len(page) <= 5, "a page is longer than its limit")
        true(all(entry.value == key.encode() for key, entry in page), "a key has another's value")
        found += [key for key, _ in page]
    same(found, sorted(keys, key=lambda key: key.encode()))


@check("state")
async def what_is_due_is_found_earliest_first(it: Bench) -> None:
    """`scan_due`: stays due until changed."""
    prefix, now = it.name("due") + "/", await it.engine.now()
    await it.state.put_if(prefix + "b", b"", 0, due=now - 1)
    a = await it.state.put_if(prefix + "a", b"", 0, due=now - 0.5)
    await it.state.put_if(prefix + "later", b"", 0, due=now + 9999)
    await it.state.put_if(prefix + "never", b"", 0)
    due = await it.state.scan_due(prefix)
    same([key for key, _ in due], [prefix + "b", prefix + "a"])
    same(due[1][1], a)
    same([key for key, _ in await it.state.scan_due(prefix, 1)], [prefix + "b"], "a limit")
    await it.state.put_if(prefix + "b", b"", None)
    same([key for key, _ in await it.state.scan_due(prefix)], [prefix + "a"], "a put without due ends it")
    await it.state.delete_if(prefix + "a")
    coming = await it.engine.now() + 0.5
    await it.state.put_if(prefix + "soon", b"", 0, due=coming)
    found = await soon(lambda: it.state.scan_due(prefix), bool, "a due time that has come")
    same([key for key, _ in found], [prefix + "soon"])
    true(await it.engine.now() >= coming, "due before its time")
