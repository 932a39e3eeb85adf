"""The development CA, the errors for a user's certificate files, and the command `fairlead cert`."""

import argparse
import datetime
import json
import os
import shutil
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fairlead.core.errors import ConfigError
from fairlead.net import certs
from fairlead.run import cert as command

x509 = pytest.importorskip("cryptography.x509")


@pytest.fixture
def ca(tmp_path):
    return certs.dev_ca(tmp_path / "ca")


def load(certificate, key="", password=None):
    return certs.load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), str(certificate), str(key), password)


def parsed(path):
    return x509.load_pem_x509_certificate(Path(path).read_bytes())


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


# ---- the development CA ----------------------------------------------------------------------------------------------


def test_the_ca_is_made_once_and_kept(tmp_path):
    first = certs.dev_ca(tmp_path)
    before = Path(first.ca_path).read_bytes()
    again = certs.dev_ca(tmp_path)
    assert first.created and not again.created
    assert Path(again.ca_path).read_bytes() == before


def test_it_lives_under_xdg_data_home(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert certs.dev_ca().ca_path == str(tmp_path / "fairlead" / "ca" / "ca.pem")
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert certs.data_home() == tmp_path / ".local" / "share"


def test_keys_are_for_their_owner_only(ca):
    certificate, key = ca.leaf()
    assert mode(ca.key_path) == mode(key) == 0o600
    assert mode(certificate) == mode(ca.ca_path) == 0o644
    assert mode(ca.directory) == 0o700


def test_a_leaf_names_loopback_and_what_was_asked_for(ca):
    certificate, key = ca.leaf(("Shop.Test", "*.shop.test", "10.0.0.7", "bücher.test"))
    assert load(certificate, key).names == (
        "localhost",
        "127.0.0.1",
        "::1",
        "shop.test",
        "*.shop.test",
        "10.0.0.7",
        "xn--bcher-kva.test",
    )


def test_a_leaf_is_reused_and_its_key_survives_renewal(ca, monkeypatch):
    certificate, key = ca.leaf(("a.test",))
    before = Path(certificate).read_bytes(), Path(key).read_bytes()
    assert ca.leaf(("a.test",)) == (certificate, key)
    assert (Path(certificate).read_bytes(), Path(key).read_bytes()) == before
    monkeypatch.setattr(certs, "RENEW_DAYS", certs.LEAF_DAYS + 1)
    monkeypatch.setattr(certs, "fresh", lambda *args, **more: False)
    assert ca.leaf(("a.test",)) == (certificate, key)
    assert Path(certificate).read_bytes() != before[0] and Path(key).read_bytes() == before[1]
    load(certificate, key)


def test_a_leaf_of_an_earlier_ca_or_near_its_end_is_not_fresh(ca):
    certificate, key = map(Path, ca.leaf())
    assert certs.fresh(certificate, key, ca.ca_path)
    assert not certs.fresh(certificate, key, ca.ca_path, certs.LEAF_DAYS + 1)
    later = os.stat(certificate).st_mtime + 10
    os.utime(ca.ca_path, (later, later))
    assert not certs.fresh(certificate, key, ca.ca_path)


def test_a_damaged_ca_is_made_anew(ca):
    Path(ca.key_path).write_text("")
    again = certs.dev_ca(ca.directory)
    assert again.created
    load(*again.leaf())


def test_extensions_are_what_rfc_5280_wants(ca):
    root, leaf = parsed(ca.ca_path), parsed(ca.leaf()[0])
    identifier = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    for certificate, is_ca in ((root, True), (leaf, False)):
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
        authority = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
        assert constraints.critical and constraints.value.ca is is_ca
        assert usage.critical and usage.value.key_cert_sign is is_ca and usage.value.digital_signature is not is_ca
        assert authority.value.key_identifier == identifier.digest
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc < datetime.timedelta(days=398)
    purposes = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [purpose.dotted_string for purpose in purposes] == ["1.3.6.1.5.5.7.3.1"]


def test_processes_that_start_at_once_share_one_ca(tmp_path):
    code = "import sys; from fairlead.net import certs; ca = certs.dev_ca(sys.argv[1]); print(ca.created, *ca.leaf())"
    runs = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = [run.communicate(timeout=60)[0].split() for run in runs]
    assert sorted(line[0] for line in said) == ["False", "False", "True"]
    assert len({tuple(line[1:]) for line in said}) == 1
    load(*said[0][1:])
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


@pytest.mark.parametrize("name", ["", "two words", "-x.test", "a..b", "*.", "a/b", "x" * 64 + ".test", "foo.*.test"])
def test_a_name_that_is_none_is_refused(ca, name):
    with pytest.raises(ConfigError, match="neither"):
        ca.issue([name], ca.directory)


def test_an_unwritable_home_says_what_to_set(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError) as error:
        certs.dev_ca(tmp_path / "file" / "ca")
    assert "XDG_DATA_HOME" in error.value.hint


def test_the_hint_names_the_file(ca):
    assert ca.trust_hint().count(ca.ca_path) >= 3


def test_the_hint_can_be_pasted_whatever_the_folder_is_called():
    assert "--cacert '/home/a b/ca.pem' https" in certs.trust_hint("/home/a b/ca.pem")


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")
def test_openssl_verifies_strictly(ca):
    for arguments in (["-purpose", "sslserver", "-verify_hostname", "localhost"], ["-verify_ip", "::1"]):
        subprocess.run(
            ["openssl", "verify", "-x509_strict", *arguments, "-CAfile", ca.ca_path, ca.leaf()[0]],
            check=True,
            capture_output=True,
        )


# ---- a user's files --------------------------------------------------------------------------------------------------


def refused(*arguments):
    with pytest.raises(ConfigError) as error:
        load(*arguments)
    return str(error.value), error.value.hint


def test_a_missing_file_is_named(ca):
    assert "no such file" in refused("/nowhere/cert.pem")[0]
    certificate, _ = ca.leaf()
    message, hint = refused(certificate, "/nowhere/key.pem")
    assert message.startswith("/nowhere/key.pem:") and "`key`" in hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_named(ca):
    certificate, key = ca.leaf()
    os.chmod(key, 0)
    assert "not readable" in refused(certificate, key)[0]


def test_der_is_told_from_pem(ca, tmp_path):
    certificate, key = ca.leaf()
    der = tmp_path / "cert.der"
    der.write_bytes(ssl.PEM_cert_to_DER_cert(Path(certificate).read_text()))
    message, hint = refused(der, key)
    assert "not PEM" in message and "openssl x509 -inform der" in hint
    (tmp_path / "text").write_text("hello")
    assert "not PEM" in refused(tmp_path / "text", key)[0]
    assert "is a directory" in refused(tmp_path, key)[0].lower()


def test_swapped_files_are_recognised(ca):
    certificate, key = ca.leaf()
    assert "swapped" in refused(key, certificate)[1]
    assert "swapped" in refused(certificate, certificate)[1]
    assert "set `key`" in refused(certificate)[1]


def test_a_key_of_another_certificate_is_said_to_be_one(ca):
    certificate, _ = ca.leaf()
    _, other = ca.leaf(("other.test",))
    message, _ = refused(certificate, other)
    assert message.startswith(f"{other}:") and certificate in message


def test_a_chain_in_the_wrong_order_is_explained(ca, tmp_path):
    certificate, key = ca.leaf()
    chain = tmp_path / "chain.pem"
    chain.write_text(Path(ca.ca_path).read_text() + Path(certificate).read_text())
    message, hint = refused(chain, key)
    assert "fits certificate 2" in message and "server's certificate first" in hint
    chain.write_text(Path(certificate).read_text() + Path(ca.ca_path).read_text())
    assert load(chain, key).warnings == ()
    chain.write_text(Path(certificate).read_text() * 2)
    assert "did not issue" in load(chain, key).warnings[0]


def test_key_and_certificate_may_share_a_file(ca, tmp_path):
    certificate, key = ca.leaf()
    both = tmp_path / "both.pem"
    both.write_text(Path(certificate).read_text() + Path(key).read_text())
    assert "localhost" in load(both).names


def test_an_encrypted_key_asks_for_its_password(ca, tmp_path):
    from cryptography.hazmat.primitives import serialization as s

    certificate, key = ca.leaf()
    private = s.load_pem_private_key(Path(key).read_bytes(), None)
    locked = tmp_path / "locked.key"
    locked.write_bytes(private.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(b"pw")))
    assert "no password" in refused(certificate, locked)[0]
    assert "wrong" in refused(certificate, locked, "nope")[0]
    load(certificate, locked, "pw")


def test_a_damaged_certificate_is_named(ca, tmp_path):
    certificate, key = ca.leaf()
    damaged = tmp_path / "damaged.pem"
    lines = Path(certificate).read_text().splitlines()
    damaged.write_text("\n".join([*lines[:3], *lines[5:]]))
    assert refused(damaged, key)[0].startswith(f"{damaged}:")


def test_an_expired_certificate_is_a_warning(ca, monkeypatch, tmp_path):
    monkeypatch.setattr(certs, "LEAF_DAYS", 0)
    assert "expire" in load(*ca.issue(["old.test"], tmp_path)).warnings[0]
    monkeypatch.setattr(certs, "LEAF_DAYS", 5)
    assert "expires on" in load(*ca.issue(["soon.test"], tmp_path)).warnings[0]


# ---- the command -----------------------------------------------------------------------------------------------------


def run(*words):
    parser = argparse.ArgumentParser(prog="fairlead")
    command.register(parser.add_subparsers())
    args = parser.parse_args(["cert", *words])
    return args.run(args)


@pytest.fixture
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("words", [(), ("ca",)])
def test_cert_shows_the_ca_and_how_to_trust_it(home, capsys, words):
    assert run(*words) == 0
    out = capsys.readouterr().out
    assert out.startswith(str(home / "fairlead/ca/ca.pem")) and "--cacert" in out and "made just now" in out
    assert run(*words, "--path") == 0
    assert capsys.readouterr().out == f"{home}/fairlead/ca/ca.pem\n"
    assert run(*words, "--json") == 0
    assert json.loads(capsys.readouterr().out)["created"] is False


def test_issue_writes_a_pair_for_exactly_the_names(home, capsys):
    assert run("issue", "*.shop.test", "10.1.1.1", "-o", str(home / "out"), "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["certificate"] == str(home / "out" / "_.shop.test.pem")
    assert load(said["certificate"], said["key"]).names == ("*.shop.test", "10.1.1.1")
    assert mode(said["key"]) == 0o600


def test_a_bad_name_or_place_is_one_line_on_stderr(home, capsys):
    (home / "file").write_text("")
    for words in (("issue", "no such name"), ("issue", "a.test", "-o", str(home / "file"))):
        assert run(*words) == 1
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("fairlead: ") and err.count("\n") == 1
