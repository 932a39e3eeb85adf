"""The development CA as a user meets it: what `fairlead cert` says is done, word for word, and the programs trust it."""

import json
import subprocess
import sys

import pytest
from processes import program

CONFIG = """
[server]
workers = 1
[[listener]]
bind = "127.0.0.1:@PORT@"
tls = "dev"
[[route]]
respond = "you trust me"
"""


@pytest.fixture
def server(real):
    server = real.fairlead(config=CONFIG, tls=True)
    server.says("Ctrl-C")  # its workers are up, so the CA is made
    return server


@pytest.fixture
def hints(real, server):
    """Line by line, for the CA of that server."""
    said = json.loads(real.command("cert", "--json", home=server.home).stdout)
    assert not said["created"]  # the server made it
    return said["trust"]


def the_line(hints, word):
    return next(line.partition("    #")[0] for line in hints if word in line)


def shell(script, home):
    done = subprocess.run(["sh", "-ec", script], env=surroundings_of(home), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done
    return done.stdout


def surroundings_of(home):
    return {"HOME": str(home), "PATH": "/usr/local/bin:/usr/bin:/bin"}


def test_chromium_trusts_the_ca_after_the_command_that_is_shown(real, server, hints, tmp_path):
    program("certutil")
    url = f"https://localhost:{server.port}/"
    before = real.chromium(url, "--dump-dom", env={"HOME": str(tmp_path)}).stdout
    assert "you trust me" not in before
    shell(the_line(hints, "certutil"), tmp_path)
    after = real.chromium(url, "--dump-dom", env={"HOME": str(tmp_path)}).stdout
    assert "you trust me" in after


def test_curl_and_python_trust_it_by_the_commands_that_are_shown(server, hints, tmp_path):
    curl = the_line(hints, "curl").replace(":8443", f":{server.port}").replace("curl ", f"{program('curl')} -sS ")
    assert shell(curl, tmp_path) == "you trust me"
    fetch = f"import urllib.request as r; print(r.urlopen('https://localhost:{server.port}/').read().decode())"
    assert shell(f'{the_line(hints, "SSL_CERT_FILE")}\n{sys.executable} -c "{fetch}"', tmp_path) == "you trust me\n"
