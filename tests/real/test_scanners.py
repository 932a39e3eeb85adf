"""TLS scanners that we did not write, on the default settings: sslyze against Mozilla's "intermediate", testssl.sh on everything.

sslyze takes a second. testssl.sh takes one minute, so it runs when `FAIRLEAD_SCAN=full` says so (`scripts/soak`). All it may
complain of is the private CA, which has no revocation list and no OCSP address, and that no HSTS is sent: an application's
decision, and harmful on localhost.
"""

import json
import os
import sys
from pathlib import Path

import pytest
from processes import program, unavailable

CONFIG = """
[server]
workers = 1
[[listener]]
bind = "127.0.0.1:@PORT@"
tls = "dev"
[[route]]
respond = "hello"
"""
ALLOWED = {"cert_revocation", "HSTS"}


@pytest.fixture
def server(real):
    server = real.fairlead(config=CONFIG, tls=True)
    server.says("Ctrl-C")
    return server


@pytest.fixture
def ca(real, server):
    return real.command("cert", "ca", "--path", home=server.home).stdout.strip()


def test_sslyze_finds_the_defaults_compliant_with_mozillas_intermediate(real, server, ca, tmp_path):
    sslyze = Path(sys.executable).with_name("sslyze")
    if not sslyze.exists():
        unavailable("sslyze (PyPI) is not installed")
    found = tmp_path / "found.json"
    words = ["--mozilla_config", "intermediate", "--certinfo_ca_file", ca, "--json_out", found]
    done = real.finish([sslyze, *words, f"localhost:{server.port}"], 120)
    assert done.returncode == 0, done.stdout[-3000:]
    said = done.stdout + done.stderr
    assert "OK - Compliant." in said, said[-3000:]
    (result,) = json.loads(found.read_text())["server_scan_results"]
    scans = result["scan_result"]
    assert scans["heartbleed"]["result"]["is_vulnerable_to_heartbleed"] is False
    assert scans["robot"]["result"]["robot_result"] == "NOT_VULNERABLE_RSA_NOT_SUPPORTED"
    assert scans["session_renegotiation"]["result"]["is_vulnerable_to_client_renegotiation_dos"] is False
    assert scans["tls_compression"]["result"]["supports_compression"] is False
    trust = scans["certificate_info"]["result"]["certificate_deployments"][0]["path_validation_results"]
    assert any(one["verified_certificate_chain"] for one in trust)  # by the CA that it was given


@pytest.mark.skipif(os.environ.get("FAIRLEAD_SCAN") != "full", reason="a minute; scripts/soak runs it")
def test_testssl_complains_of_nothing_but_the_private_ca(real, server, ca, tmp_path):
    found = tmp_path / "found.json"
    words = ["--quiet", "--color", "0", "--warnings", "off", "--ip", "127.0.0.1", "-n", "none", "--add-ca", ca]
    argv = [program("testssl"), *words, "--jsonfile", found, f"localhost:{server.port}"]
    said = real.finish(argv, 600).stdout
    findings = json.loads(found.read_text())
    worse = {one["id"]: one for one in findings if one["severity"] not in ("OK", "INFO")}
    assert len(findings) > 100 and set(worse) <= ALLOWED, (worse, said[-2000:])
    seen = {one["id"]: one["finding"] for one in findings}
    assert seen["TLS1_3"].startswith("offered") and seen["TLS1_2"].startswith("offered")
    assert seen["cert_chain_of_trust"].startswith("passed"), seen["cert_chain_of_trust"]
