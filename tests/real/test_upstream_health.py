"""Active health checks of real nginx servers by a running server with two workers."""

import re

from processes import eventually

CONFIG = """
[server]
workers = 2
[log]
access = "off"
[[listener]]
bind = "127.0.0.1:@PORT@"
[[route]]
proxy = { upstream = "web" }
[[upstream]]
name = "web"
balance = "round-robin"
servers = ["127.0.0.1:ONE", "127.0.0.1:TWO"]
[upstream.health]
path = "/healthz"
every = "50ms"
rise = 2
fall = 2
"""
NGINX = 'server { listen 127.0.0.1:@PORT@; location / { return 200 "NAME"; } location = /healthz { access_log off; return 204; } }'


def test_a_server_that_goes_is_left_alone_by_every_worker_until_it_is_back(real):
    one, two = (real.nginx(NGINX.replace("NAME", name)) for name in ("one", "two"))
    server = real.fairlead(config=CONFIG.replace("ONE", str(one.port)).replace("TWO", str(two.port)))
    server.says("Ctrl-C")

    def names(count=8):
        answers = [real.curl(server.url) for _ in range(count)]
        assert all(answer.status == 200 for answer in answers)
        return {answer.text for answer in answers}

    assert names() == {"one", "two"}
    one.stop()
    server.says(rf"upstream web: 127\.0\.0\.1:{one.port} is unhealthy: ")
    assert names() == {"two"}
    told = real.command("status", "--json", "--admin", f"unix:{server.home}/fairlead-{server.port}.sock")
    assert re.search(r'"healthy": false', told.stdout)
    one.start()
    one.ready()
    server.says(rf"upstream web: 127\.0\.0\.1:{one.port} is healthy again")
    eventually(lambda: names() == {"one", "two"}, what="both to answer")
    assert len(re.findall("is unhealthy", server.text())) == 1
