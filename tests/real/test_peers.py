"""The helpers of this folder, against the programs themselves: what they report is what happened."""

import os
import signal
from pathlib import Path

from peers import Real
from processes import eventually

HELLO = 'server { listen 127.0.0.1:@PORT@; location / { return 200 "hi\\n"; } location /no { return 404; } }'


def test_curl_reports_status_headers_and_body(real: Real) -> None:
    nginx = real.nginx(HELLO)
    answer = real.curl(nginx.url + "/")
    assert (answer.status, answer.text, answer.header("Content-Length"), answer.exit_code) == (200, "hi\n", "3", 0)
    assert real.curl(nginx.url + "/no").status == 404


def test_curl_reports_a_refused_connection_by_its_exit_code(real: Real) -> None:
    nginx = real.nginx(HELLO)
    nginx.stop()
    assert real.curl(nginx.url).exit_code == 7


def test_haproxy_forwards_to_nginx(real: Real) -> None:
    nginx = real.nginx(HELLO)
    haproxy = real.haproxy(f"listen l\n  bind 127.0.0.1:@PORT@\n  server s 127.0.0.1:{nginx.port}")
    assert real.curl(haproxy.url + "/").text == "hi\n"


def test_a_certificate_is_made_for_a_configuration_that_asks_for_one(real: Real) -> None:
    text = (
        'server { listen 127.0.0.1:@PORT@ ssl; ssl_certificate @CERT@; ssl_certificate_key @KEY@; return 200 "hi\\n"; }'
    )
    nginx = real.nginx(text, tls=True)
    assert real.curl(nginx.url, "--cacert", str(nginx.home / "cert.pem")).status == 200


def test_load_generators_count_what_failed(real: Real) -> None:
    nginx = real.nginx(HELLO)
    assert real.wrk(nginx.url + "/").clean
    assert real.wrk(nginx.url + "/no").bad_status > 0
    assert real.h2load(nginx.url + "/", "--h1", streams=1).clean
    assert real.h2load(nginx.url + "/no", "--h1", streams=1).bad_status == 1000


def test_slowhttptest_finds_nginx_available(real: Real) -> None:
    assert real.slowhttptest("H", real.nginx(HELLO).url + "/", seconds=3, connections=20)


def test_chromium_runs_the_page_and_takes_its_picture(real: Real, tmp_path: Path) -> None:
    page = "<title>t</title><p id=p></p><script>p.textContent = 6 * 7</script>"
    nginx = real.nginx("server { listen 127.0.0.1:@PORT@; root @FOLDER@; location / { types { text/html html; } } }")
    (nginx.home / "index.html").write_text(page)
    assert '<p id="p">42</p>' in real.dom(nginx.url + "/index.html")
    assert real.screenshot(nginx.url + "/index.html", tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")


def test_stopping_ends_the_whole_tree_even_when_it_ignores_the_signal(real: Real) -> None:
    shell = real.run("/bin/sh", "-c", 'trap "" TERM; sleep 600 & echo $!; wait; sleep 600')
    child = int(shell.says(r"(\d+)\n").group(1))
    assert shell.stop(seconds=0.2) == -signal.SIGKILL
    eventually(lambda: gone(child), what="the child is gone")


def gone(pid: int) -> bool:
    """Whether a process has ended (a zombie that nobody waits for counts as ended)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return not os.path.exists(f"/proc/{pid}")
