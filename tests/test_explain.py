"""`check` and `explain`: what they print, their exit status, and that they agree with what is served."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import pytest

from fairlead.run import explain, reference
from fairlead.run.load import examine, loads

ROOT = Path(__file__).parent.parent
FULL = ROOT / "examples" / "full.toml"
TWO = """[[listener]]
name = "web"
bind = "127.0.0.1:8443"
tls = "dev"
[[listener]]
name = "plain"
bind = "127.0.0.1:8080"
[[route]]
listener = "plain"
redirect = "https://{host}{path}"
[[route]]
path = "/api/{id}"
methods = ["GET"]
host = "shop.example"
filters = ["compress"]
app = "shop.main:app"
[[route]]
path = "/api/*"
respond = 200
"""


SERVED = TWO.replace('filters = ["compress"]\n', "")


def run(*words):
    parser = argparse.ArgumentParser()
    explain.register(parser.add_subparsers())
    args = parser.parse_args([str(word) for word in words])
    return args.run(args)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "f.toml"
    path.write_text(TWO)
    return path


def test_check_of_a_good_file_says_so(file, capsys):
    file.write_text(SERVED)
    assert run("check", file) == 0
    out, err = capsys.readouterr()
    assert out == f"{file}: good: 2 listeners, 3 routes, 0 upstreams\n"
    assert err == ""


def test_check_prints_every_problem_on_its_own_line_and_ends_with_2(file, capsys):
    file.write_text(
        SERVED + '[server]\ngrace = 1\nworkrs = 1\n[[route]]\npath = "/api/x"\nrespond = 200\n[[upstream]]\nname = "u"\n'
    )
    assert run("check", file) == 2
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert len(lines) == 5
    assert lines[0].startswith(f"{file}:20: server.grace: ")
    assert any(": warning: route[3]: is never reached" in line for line in lines)


def test_check_says_what_this_version_cannot_serve(file, capsys):
    file.write_text(SERVED + '[[route]]\nlistener = "web"\npath = "/rtc/{room}"\nsignal = {}\n')
    assert run("check", file) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{file}:22: route[3].signal: ") and "not in this version" in line


def test_check_as_json_has_the_fields_of_each_problem(file, capsys):
    file.write_text(SERVED + "[server]\ngrace = 1\n")
    assert run("check", file, "--json") == 2
    (problem,) = json.loads(capsys.readouterr().out)
    assert (problem["line"], problem["key"], problem["severity"]) == (20, "server.grace", "error")
    assert problem["hint"]


def test_check_of_a_missing_file_is_one_line(tmp_path, capsys):
    assert run("check", tmp_path / "no.toml") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_check_prints_no_control_characters_of_the_file(file, capsys):
    file.write_text(TWO + '"\\u001b[31m" = 1\n')
    assert run("check", file) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_explain_says_where_each_value_came_from(file, capsys, monkeypatch):
    monkeypatch.setenv("FAIRLEAD_SERVER_BACKLOG", "77")
    assert run("explain", file) == 0
    out = capsys.readouterr().out
    assert re.search(r'^bind = \["127.0.0.1:8443"\] +# .*f.toml:3$', out, re.M)
    assert re.search(r"^backlog = 77 +# env FAIRLEAD_SERVER_BACKLOG$", out, re.M)
    assert re.search(r'^idle = "75s" +# default$', out, re.M)
    assert re.search(r'^pattern = "auto" +# default; here (single|shared|reuseport): .+$', out, re.M)


@pytest.mark.parametrize("text", [TWO, FULL.read_text()])
def test_the_effective_configuration_reads_as_itself(text):
    config = loads(text)
    assert loads("\n".join(explain.effective(config))) == config


def test_explain_as_json_has_values_and_origins(file, capsys):
    assert run("explain", file, "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["listener"][0]["bind"] == {"value": ["127.0.0.1:8443"], "origin": f"{file}:3"}
    assert data["server"]["grace"] == {"value": 10.0, "origin": "default"}
    assert data["route"][0]["app"] is None
    assert list(data["route"][1]["filters"][0]) == ["compress"]


def test_explain_of_the_full_example_shows_no_secret(capsys, monkeypatch):
    monkeypatch.setenv("TURN_SECRET", "very-secret")
    assert run("explain", FULL) == 0
    out = capsys.readouterr().out
    assert "very-secret" not in out
    assert 'secret = "env:TURN_SECRET"' in out


def test_explain_of_a_bad_file_ends_with_2(file, capsys):
    file.write_text("nope")
    assert run("explain", file) == 2
    assert "not TOML" in capsys.readouterr().err


def test_a_url_is_answered_by_the_listener_of_its_port_and_scheme(file, capsys):
    assert run("explain", file, "https://shop.example:8443/api/7") == 0
    out = capsys.readouterr().out
    assert "listener web (" in out and "listener plain (" not in out
    assert "only on listener plain" in out
    assert "-> route 2" in out and "answers: app shop.main:app" in out
    assert 'id = "7"' in out
    assert "through compress" in out


@pytest.mark.parametrize(
    ("url", "more", "says", "status"),
    [
        ("http://shop.example:8080/x", [], "route 1 answers: redirect", 0),
        ("https://other.example:8443/api/7", [], "host other.example is not shop.example", 0),
        ("https://shop.example:8443/api/7", ["--method", "POST"], "method POST is not GET", 1),
        ("https://shop.example:8443/nothing", [], "404", 1),
        ("https://shop.example/api/7", [], "no listener is bound to port 443", 0),
        ("/api/7", [], "listener plain", 0),
        ("https://shop.example:8443/x/%2e%2e/api/7", [], "GET /api/7", 0),
        ("https://shop.example:8443/%zz", [], "percent escape", 2),
        ("ftp://x/", [], "not a scheme", 2),
        ("http://x:99999/", [], "ort", 2),
        ("/x", ["--header", "novalue"], "no value", 2),
    ],
)
def test_a_url_is_explained(file, capsys, url, more, says, status):
    assert run("explain", file, url, *more) == status
    out, err = capsys.readouterr()
    assert says in out + err


def test_a_method_that_does_not_fit_is_explained_with_allow(file, capsys):
    file.write_text(TWO.replace('path = "/api/*"', 'path = "/other"'))
    assert run("explain", file, "https://shop.example:8443/api/7", "--method", "PUT", "--json") == 1
    data = json.loads(capsys.readouterr().out)
    assert (data["listeners"][0]["status"], data["listeners"][0]["allow"]) == (405, ["GET", "HEAD"])


def test_headers_choose_the_canary(capsys):
    words = ["explain", FULL, "https://shop.localhost:8443/api/x"]
    assert run(*words, "--header", "X-Canary=1") == 0
    assert "answers: app shop.main:app" in capsys.readouterr().out
    assert run(*words) == 0
    assert "answers: proxy to web" in capsys.readouterr().out


def test_the_reference_page_is_up_to_date():
    page = (ROOT / "docs" / "reference" / "configuration.md").read_text(encoding="utf-8")
    assert page == reference.page(), "run: python -m fairlead.run.reference docs/reference/configuration.md"


def test_help_texts_come_from_the_settings():
    assert 'Default: "process".' in reference.describe("server.unit")
    with pytest.raises(KeyError):
        reference.describe("server.nothing")


def test_the_guide_shows_only_what_reads():
    guide = (ROOT / "docs" / "guide" / "configuration.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```toml\n(.*?)```", guide, re.S)
    assert blocks
    for block in blocks:
        _, found = examine_block(block)
        assert [problem for problem in found if problem.severity == "error"] == []


def examine_block(block):
    from fairlead.run.load import examine_text

    return examine_text(block, "guide", env={})


def test_the_full_example_is_good_for_check(capsys):
    assert examine(str(FULL), env={})[1] == []
