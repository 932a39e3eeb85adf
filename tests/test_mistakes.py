"""Mistakes that people make in a file or on the command line: each message says what was wrong, where, and what would be right."""
# ruff: noqa: E501

import pytest

from fairlead.run import cli
from fairlead.run.load import examine_text

WEB = '[[listener]]\nbind = "127.0.0.1:80"\n'
FILES = [  # what is written, the line, what is said
    ("a key twice", WEB + 'bind = "127.0.0.1:81"\n', 3, "a key or table is written a second time at column 22 (write it once; "),
    ("a table twice", WEB + "[server]\n[server]\n", 4, "a key or table is written a second time"),
    ("no quotes", "[[listener]]\nbind = 127.0.0.1:80\n", 2, '(strings need quotes: bind = "127.0.0.1:80")'),
    ("an open string", '[[listener]]\nbind = "127.0.0.1:80\n', 2, 'a string does not end at column 21 (close it with ")'),
    ("typographic quotes", "[[listener]]\nbind = \u201c127.0.0.1:80\u201d\n", 2, 'a typographic quote at column 8 (write a plain one: ")'),
    ("two lines inline", '[[listener]]\ntls = { mode = "dev",\n  min = "1.3" }\n', 2, "an inline table does not end on its line"),
    ("YAML", "listener:\n  - bind: 127.0.0.1:80\n", 1, "this is YAML"),
    ("JSON", '{"listener": []}\n', 1, "this is JSON"),
    ("Python", "import os\napp = 5\n", 1, "this is Python: name the application as module:attribute"),
    ("one bracket", '[listener]\nbind = "127.0.0.1:80"\n', 1, "listener: is a table (write [[listener]])"),
    ("a key above all tables", "workers = 2\n" + WEB, 1, "workers: is unknown (it belongs below [server])"),
    ("a server's URL", WEB + '[[upstream]]\nname = "w"\nservers = ["http://10.0.0.1:8080"]\n', 5, 'is a URL (write its address, "10.0.0.1:8080")'),
    ("a server's HTTPS URL", WEB + '[[upstream]]\nname = "w"\nservers = ["https://w.example/x"]\n', 5, '"w.example:443", and TLS with tls)'),
    ("a URL for an upstream", WEB + '[[route]]\nproxy = "http://10.0.0.1:8080"\n', 4, 'and servers = ["10.0.0.1:8080"]'),
    ("two filters in one", WEB + '[[route]]\nrespond = 200\nfilters = [{ body = "1MiB", ratelimit = "1/s" }]\n', 5, "has 2 keys, body, ratelimit ("),
    ("two slashes", '[store]\nurl = "sqlite://data.db"\n' + WEB, 2, 'names no file (write "sqlite:///data.db" in the working directory'),
    ("the other word", '[store]\nurl = "postgres://h/db"\n' + WEB, 2, 'is not a store URL (write "postgresql://h/db")'),
    ("TLS is true", "[[listener]]\ntls = true\n", 2, 'is a boolean, true (write "dev", or a table with mode'),
    ("methods in one text", WEB + '[[route]]\nmethods = "get, post"\nrespond = 200\n', 4, '(write ["GET", "POST"])'),
    ("a colon", WEB + '[[route]]\npath = "/users/:id"\nrespond = 200\n', 4, '":id" matches these letters alone (any segment is written {id})'),
    ("angle brackets", WEB + '[[route]]\npath = "/<int:id>/x"\nrespond = 200\n', 4, "(any segment is written {id})"),
]  # fmt: skip
WORDS = [
    (["runn", "app:app"], 'there is no command "runn"; did you mean run?'),
    (["run", "app:app", "--pattern", "reuse"], 'there is no --pattern "reuse"; did you mean reuseport?'),
    (["run", "app:app", "--tls", "prod"], 'there is no --tls "prod"; there are dev, off'),
    (["run", "shop/main.py"], 'shop/main.py is Python, not a configuration (write "shop.main:app" for an application in it)'),
    (["run", "app:app", "--workers", "0"], 'is 0 (write a number from 1 to 1024, or "auto")'),
    (["run", "app:app", "--bind", "http://127.0.0.1:8000"], 'is a URL (write its address, "127.0.0.1:8000")'),
    (["status", "--admin", "nowhere"], '"nowhere" is no admin address (write unix:/path or http://host:port)'),
    (["run", "app:app", "--page", "0.0.0.0"], '--page: "0.0.0.0" has no port (write "0.0.0.0:8000", or off)'),
    (["run", "app:app", "--host", "127.0.0.1:80"], "--host 127.0.0.1:80 has a port (write --bind 127.0.0.1:80, or"),
    (["run", "app:app", "--certfile", "nope.pem"], "--ssl-certfile: nope.pem does not exist"),
    (["run", "app:app", "--wrokers", "2"], "did you mean --workers?"),
    (["check", "f.toml", "--jsn"], "did you mean --json?"),
    (["watch", "70000"], "there is no port 70000 (ports are 1 to 65535)"),
]


@pytest.mark.parametrize("written, line, said", [one[1:] for one in FILES], ids=[one[0] for one in FILES])
def test_a_mistake_in_a_file_is_named_with_its_line_and_what_would_be_right(written, line, said):
    _, problems = examine_text(written, "f.toml", env={})
    assert any(str(one).startswith(f"f.toml:{line}: ") and said in str(one) for one in problems), "\n".join(map(str, problems))


@pytest.mark.parametrize("words, said", WORDS, ids=[" ".join(words) for words, _ in WORDS])
def test_a_mistake_in_a_command_is_one_line_that_says_what_would_be_right(words, said, capsys):
    try:
        code = cli.main(words)
    except SystemExit as end:
        code = end.code
    error = capsys.readouterr().err
    assert code in (1, 2) and said in error and error.count("\n") == 1
