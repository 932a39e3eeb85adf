"""Topics in numbers: what roles count is added, counts survive the role, what is shown is bounded, and a slow follower is named."""

import asyncio
from types import SimpleNamespace

import pytest

from fairlead.core.errors import Refused
from fairlead.run import topicstats
from fairlead.run.role import SERVING
from fairlead.run.statsd import Statsd
from fairlead.run.topicstats import Topics, lines
from fairlead.serve.hooks import Hooks
from fairlead.serve.push import Deliveries
from fairlead.store.contract import NewEvent, TopicConfig
from fairlead.store.open import open_store


def counted(**more):
    """What a role tells."""
    return {
        "topics": 1, "events": 0, "delivered": 0, "gaps": 0, "conflated": 0, "left_out": 0, "hooks_sent": 0, "hooks_failed": 0,
        "slow": {}, "followers": {}, "late": {}, "late_by": [], "top": [], "named": [], **more,
    }  # fmt: skip


class Role:
    """A role that answers with `said`, or is stuck."""

    state = SERVING

    def __init__(self, number, said):
        self.number, self.said, self.asked = number, said, []

    async def ask(self, word, timeout, **what):
        self.asked.append(what)
        if self.said is None:
            raise TimeoutError
        return self.said


def fresh(topics):
    """The sums now, not those of half a second ago."""
    topics.asked = -1e9
    return asyncio.run(topics.numbers())


def test_roles_are_added_and_what_one_had_counted_outlives_it():
    row = {"topic": "a", "events": 5, "delivered": 10, "followers": {"sse": 2}}
    one = Role(1, counted(events=5, delivered=10, slow={"cursor": 1}, followers={"sse": 2}, late={"sse": 1}, top=[row]))
    other = Role(2, counted(events=5, delivered=7, followers={"sse": 1, "websocket": 3}, top=[row | {"delivered": 7}]))
    stuck = Role(3, None)
    topics = Topics(SimpleNamespace(roles=[one, other, stuck]))
    found = fresh(topics)
    assert (found["delivered"], found["silent"], found["followers"]) == (17, 1, {"sse": 3, "websocket": 3})
    assert found["top"] == [{"topic": "a", "events": 5, "delivered": 17, "followers": {"sse": 4}, "late": {}}]
    topics.master.roles = [other]
    found = fresh(topics)
    assert (found["delivered"], found["slow"], found["followers"]) == (17, {"cursor": 1}, {"sse": 1, "websocket": 3})


def test_who_asks_again_at_once_is_served_from_the_same_answer():
    role = Role(1, counted())
    topics = Topics(SimpleNamespace(roles=[role]))

    async def all_at_once():
        return await asyncio.gather(*(topics.numbers() for _ in range(5)))

    assert len(asyncio.run(all_at_once())) == 5 and len(role.asked) == 1


def test_topics_beyond_the_most_followed_are_one_line(monkeypatch):
    monkeypatch.setattr(topicstats, "TOP", 1)
    rows = [{"topic": name, "events": 1, "delivered": n, "followers": {"sse": n}} for name, n in (("big", 9), ('sm"all', 2))]
    found = fresh(Topics(SimpleNamespace(roles=[Role(1, counted(followers={"sse": 11}, top=rows))])))
    text = "\n".join(lines(found))
    assert 'fairlead_topic_followers{topic="big",transport="sse"} 9\n' in text
    assert 'fairlead_topic_followers{topic="(other)",transport="sse"} 2\n' in text
    assert "all" not in text.partition("fairlead_topic_followers{")[2]


def test_statsd_sends_increases_and_forgets_no_gauge():
    role = Role(1, counted(delivered=5, followers={"sse": 2}))
    topics = Topics(SimpleNamespace(roles=[role]))
    statsd = Statsd(None, ("127.0.0.1", 1), "x.", topics=topics)
    assert "x.topics.delivered:5|c" in asyncio.run(statsd.topic_lines())
    role.said = counted(delivered=8)
    topics.asked = -1e9
    said = asyncio.run(statsd.topic_lines())
    assert "x.topics.delivered:3|c" in said and "x.topics.followers.sse:0|g" in said


def test_a_dead_letter_is_redriven_by_the_first_role_that_has_the_store():
    roles = [Role(1, {"none": True}), Role(2, None), Role(3, {"did": "redrive", "count": 1})]
    topics = Topics(SimpleNamespace(roles=roles))
    query = {"topic": ["a"], "group": ["g"], "id": ["7"]}
    assert asyncio.run(topics.redrive("/api/topics/redrive", query))["count"] == 1
    assert roles[2].asked == [{"do": "redrive", "topic": "a", "group": "g", "webhook": "", "id": "7"}]
    with pytest.raises(Refused, match="say which"):
        asyncio.run(topics.redrive("/api/topics/redrive", {"topic": ["a"]}))
    with pytest.raises(Refused, match="say which"):
        asyncio.run(topics.redrive("/api/topics/redrive", {**query, "webhook": ["w"]}))
    roles[2].said = {"error": "g of a has no dead letter 7", "status": 404}
    with pytest.raises(Refused, match="no dead letter"):
        asyncio.run(topics.redrive("/api/topics/redrive", query))


def test_a_webhook_is_shown_without_its_secrets_and_its_dead_letters_are_redriven():
    async def story():
        store = await open_store("memory:")
        try:
            await store.log.create("orders", TopicConfig("application/json"))
            hooks = Hooks(store)
            await hooks.make("orders", {"url": "https://partner.example/in?token=t", "id": "w"})
            await store.log.append("orders", [NewEvent(b"1"), NewEvent(b"2")])
            (lease,) = await store.leases.claim("hook/orders/w", 1, 30.0)
            await store.leases.term(lease, "status 500")
            role = SimpleNamespace(store=store, deliveries=Deliveries(hooks), feed=None)
            said = await topicstats.answer(role, {"do": "groups"})
            (one,) = said["webhooks"]
            assert (one["topic"], one["id"], one["state"], one["dead"], one["lag"]) == ("orders", "w", "active", 1, 1)
            assert one["url"] == "https://partner.example/in?…" and one["letters"][0]["reason"] == "status 500"
            which = {"topic": "orders", "group": "", "webhook": "w"}
            assert (await topicstats.answer(role, {"do": "redrive", **which, "id": "x"}))["status"] == 404
            assert (await topicstats.answer(role, {"do": "redrive", **which, "id": lease.id}))["count"] == 1
            assert not (await store.leases.depth("hook/orders/w")).dead
        finally:
            await store.close()

    asyncio.run(story())
