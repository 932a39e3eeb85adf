"""The plan: what is refused with its place, what a change asks for, which worker has which socket."""

import pytest

from fairlead.core.errors import ConfigError
from fairlead.run import plan as plans
from fairlead.run.load import loads
from fairlead.run.patterns import find
from fairlead.run.state import State

BASE = """
[server]
workers = 2
[[listener]]
name = "web"
bind = "127.0.0.1:8000"
[[route]]
path = "/*"
app = "shop:app"
"""


def config(text: str = BASE):
    return loads(text, "fairlead.toml")


def made(text: str = BASE) -> plans.Plan:
    return plans.make(config(text))


REFUSED = {
    'kind = "tcp"\nupstream = "u"\n[[upstream]]\nname = "u"\nservers = ["127.0.0.1:1"]\n': "kind",
    "socket = { cork = true }": "cork",
    "limits = { connections = 5 }": "connections",
    'tls = { mode = "acme", email = "a@b.example", names = ["shop.example"] }': "acme",
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_a_listener_cannot_have_yet_is_refused_with_its_line(line):
    text = BASE.replace('bind = "127.0.0.1:8000"', f'bind = "127.0.0.1:8000"\n{line}')
    with pytest.raises(ConfigError) as caught:
        plans.make(config(text))
    problem = caught.value.problems[0]
    assert REFUSED[line] in str(problem) and "not in this version" in str(problem)
    assert problem.file == "fairlead.toml" and problem.line in (7, 8)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ('tls = "dev"\nprotocols = ["h3"]', "h3. alone is not served"),
        ('tls = "dev"\nearly_data = true', "over HTTP/3 only"),
    ],
)
def test_what_http3_cannot_do_is_refused_with_the_reason(lines, why):
    with pytest.raises(ConfigError, match=rf"fairlead\.toml:[78]: .*{why}"):
        made(BASE.replace('bind = "127.0.0.1:8000"', f'bind = "127.0.0.1:8000"\n{lines}'))


ROOM = ('path = "/*"\napp = "shop:app"', 'path = "/rtc/{room}"\nsignal = {}')


def test_an_engine_that_is_not_installed_is_named_where_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(plans, "find_spec", lambda name: None)
    text = (
        '[[listener]]\nbind = "127.0.0.1:1"\ntls = "dev"\nprotocols = ["h1", "h3"]\n'
        '[[listener]]\nbind = "127.0.0.1:2"\ntls = "dev"\nprotocols = ["h1", "h3"]\nquic = { engine = "aioquic" }\n'
        '[[upstream]]\nname = "u"\nservers = ["127.0.0.1:3"]\nprotocol = "h3"\ntls = { verify = false }\n[[route]]\nproxy = "u"\n'
    )
    assert [(one.line, one.key, one.hint) for one in plans.refusals(config(text))] == [
        (4, "listener[0].protocols", "pip install 'fairlead[h3]'"),
        (9, "listener[1].quic.engine", "pip install aioquic"),
        (13, "upstream[0].protocol", "pip install 'fairlead[h3]'"),
    ]


def test_answers_of_later_versions_are_refused_with_their_line():
    with pytest.raises(ConfigError, match=r"fairlead\.toml:\d+: .*not in this version"):
        made(BASE.replace(*ROOM))


def test_a_pattern_that_there_is_not_is_refused():
    with pytest.raises(ConfigError, match="scatter"):
        find("scatter")


def test_every_refusal_is_told_at_once():
    with pytest.raises(ConfigError) as caught:
        made(BASE.replace("[server]", '[cache]\nsize = "1MiB"\n[server]').replace(*ROOM))
    assert len(caught.value.problems) == 2


CHANGES = [
    ("shop:app", "shop:other", plans.WORKERS, "app"),
    ("workers = 2", "workers = 3", plans.WORKERS, "server.workers"),
    ("workers = 2", 'workers = 1\npattern = "single"', plans.WORKERS, "server.pattern"),
    ("[server]", '[log]\naccess = "off"\n[server]', plans.WORKERS, "log"),
    ('path = "/*"', 'path = "/shop/*"', plans.SWAP, "routes"),
    ("8000", "8001", plans.SWAP, "listeners"),
    ("workers = 2", 'workers = 2\ngrace = "3s"', plans.SWAP, "server"),
    ("[server]", "# a comment\n[server]", plans.SAME, ""),
]


@pytest.mark.parametrize("before, after, what, why", CHANGES)
def test_what_a_change_asks_for(before, after, what, why):
    got, reasons = plans.difference(made(), made(BASE.replace(before, after)))
    assert got == what
    assert not why or why in reasons


def test_single_has_one_socket_and_reuseport_one_per_worker():
    assert find("single").sockets(1) == 1
    assert find("reuseport").sockets(4) == 4


@pytest.mark.parametrize("sockets, workers", [(4, 4), (4, 2), (5, 2), (1, 1), (1, 3), (3, 1)])
def test_every_socket_has_a_worker_and_every_worker_a_socket(sockets, workers):
    shares = [find("reuseport").share(list(range(sockets)), index, workers) for index in range(workers)]
    assert {one for share in shares for one in share} == set(range(sockets))
    assert all(shares)


def test_a_replacement_gets_the_same_sockets_by_its_index():
    pattern = find("reuseport")
    assert pattern.share("abcd", 1, 4) == pattern.share("abcd", 1, 4) == ["b"]


def test_state_keeps_what_the_next_plan_takes_again_and_gives_back_the_rest():
    state = State()
    state.begin()
    first, second = state.take("a", object), state.take("b", object)
    assert state.commit() == []
    state.begin()
    assert state.take("a", object) is first
    state.take("c", object)
    assert state.commit() == [second]


def test_an_aborted_generation_gives_back_only_what_was_made_for_it():
    state = State()
    state.begin()
    kept = state.take("a", object)
    state.commit()
    state.begin()
    state.take("a", object)
    fresh = state.take("b", object)
    assert state.abort() == [fresh]
    state.begin()
    assert state.take("a", object) is kept
