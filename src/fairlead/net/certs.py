"""Certificates: reading a user's files with errors that help, and a development CA of our own.

Reading uses only what `ssl` has. The development CA is made with `cryptography`, imported when one is made, so a worker
that serves existing files never pays for it.

Rules of the development CA
- It lives in `$XDG_DATA_HOME/fairlead/ca` (else `~/.local/share/fairlead/ca`), mode 0700, keys 0600, made on first
  use and kept: trusting it once is enough. Making is guarded by a file lock, and every file appears whole (written
  aside, then renamed).
- A leaf keeps its key when it is renewed, so a certificate and a key read at different moments still fit.
- Extensions as RFC 5280 4.2 wants them, so `X509_V_FLAG_X509_STRICT` is content: BasicConstraints and KeyUsage
  critical, SubjectKeyIdentifier, AuthorityKeyIdentifier, SubjectAltName, ExtendedKeyUsage. P-256 and SHA-256, which
  everybody takes.
- Leaves live 90 days, renewed in the last 30: browsers refuse long lives (398 days), and short ones keep renewal
  exercised.
"""

from __future__ import annotations

import _ssl
import base64
import contextlib
import datetime
import hashlib
import ipaddress
import itertools
import os
import re
import socket
import ssl
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairlead.core.errors import ConfigError

CA_DAYS = 3650
LEAF_DAYS = 90
RENEW_DAYS = 30
WARN_DAYS = 14
ALWAYS = ("localhost", "127.0.0.1", "::1")
PEM_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.S)
PEM_KEY = re.compile(r"-----BEGIN ([A-Z ]*)PRIVATE KEY-----")
NAME = re.compile(r"(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


# ---- a user's files --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CertificateInfo:
    """What was read from a certificate file: DNS and IP names in lower case, its end (UTC), warnings in whole
    sentences.
    """

    path: str
    names: tuple[str, ...]
    not_after: datetime.datetime
    warnings: tuple[str, ...] = ()


def read_pem(path: str, what: str) -> str:
    """The text of a PEM file; ConfigError says which file cannot be read, and why."""
    try:
        with open(path, encoding="ascii") as file:
            text = file.read()
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file", hint=f"{what} names a PEM file") from None
    except PermissionError:
        raise ConfigError(
            f"{path}: not readable by {user()}", hint="change its owner or mode, or start as another user"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not PEM", hint=f"if it is DER: {der_hint(path)}") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", hint=f"{what} names a PEM file") from None
    if "-----BEGIN " not in text:
        raise ConfigError(f"{path}: not PEM", hint="a PEM file has lines like -----BEGIN CERTIFICATE-----")
    return text


def der_hint(path: str) -> str:
    """The command that turns a DER file into PEM."""
    if path.lower().endswith((".p12", ".pfx")):
        return f"openssl pkcs12 -in {path} -nodes -out cert-and-key.pem"
    return f"openssl x509 -inform der -in {path} -out cert.pem"


def load_pair(context: ssl.SSLContext, certificate: str, key: str = "", password: str | None = None) -> CertificateInfo:
    """Load a certificate with its chain and key into `context`. ConfigError names the file and what would be right."""
    text = read_pem(certificate, "`certificate`")
    blocks = PEM_CERTIFICATE.findall(text)
    if not blocks:
        hint = "`certificate` and `key` may be swapped" if PEM_KEY.search(text) else "it must hold a certificate"
        raise ConfigError(f"{certificate}: no certificate in it", hint=hint)
    key_text = read_pem(key, "`key`") if key else text
    if not PEM_KEY.search(key_text):
        hint = (
            "set `key`"
            if not key
            else "`certificate` and `key` may be swapped"
            if PEM_CERTIFICATE.search(key_text)
            else ""
        )
        raise ConfigError(f"{key or certificate}: no private key in it", hint=hint)
    facts = [decode(block, certificate) for block in blocks]
    try:
        context.load_cert_chain(certificate, key or None, password=(lambda: password or ""))
    except ssl.SSLError as error:
        raise explained(error, certificate, key or certificate, blocks, password) from None
    return inspected(certificate, facts)


def decode(block: str, path: str) -> dict[str, Any]:
    """One certificate's fields, as `SSLSocket.getpeercert` gives them."""
    import tempfile

    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(block)
        file.flush()
        try:
            return _ssl._test_decode_cert(file.name)  # type: ignore[attr-defined]
        except ssl.SSLError:
            raise ConfigError(
                f"{path}: damaged certificate", hint="copy it again, with its BEGIN and END lines"
            ) from None


def explained(
    error: ssl.SSLError, certificate: str, key: str, blocks: Sequence[str], password: str | None
) -> ConfigError:
    """Why OpenSSL refused the pair."""
    if error.reason == "KEY_VALUES_MISMATCH":
        fits = [n for n, block in enumerate(blocks, 1) if n > 1 and fits_key(block, key, password)]
        if fits:
            return ConfigError(
                f"{certificate}: the key fits certificate {fits[0]} in the file, not the first",
                hint="put the server's certificate first, then the one that issued it, and so on",
            )
        return ConfigError(
            f"{key}: this key does not belong to {certificate}", hint="use the key it was requested with"
        )
    with open(key, encoding="ascii") as file:
        encrypted = "ENCRYPTED" in file.read()
    if encrypted:
        wrong = "the password is wrong" if password else "it is encrypted and there is no password"
        return ConfigError(f"{key}: {wrong}", hint='set `password = "env:NAME"` or `"file:PATH"`')
    if error.reason in ("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"):
        return ConfigError(
            f"{certificate}: too weak for OpenSSL ({error.reason})", hint="RSA needs 2048 bits, ECDSA P-256"
        )
    return ConfigError(
        f"{certificate}: OpenSSL cannot use it with {key} ({error.reason})", hint="one of them is damaged"
    )


def fits_key(block: str, key: str, password: str | None) -> bool:
    """Whether this one certificate belongs to the key."""
    import tempfile

    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(block)
        file.flush()
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(file.name, key, password=(lambda: password or ""))
        except ssl.SSLError:
            return False
        return True


def inspected(path: str, facts: list[dict[str, Any]]) -> CertificateInfo:
    """Names, end and warnings of a chain that OpenSSL has accepted."""
    warnings = []
    now = datetime.datetime.now(datetime.UTC)
    end = moment(facts[0]["notAfter"])
    if end < now:
        warnings.append(f"{path}: expired on {end:%Y-%m-%d}; clients will refuse it")
    elif end < now + datetime.timedelta(days=WARN_DAYS):
        warnings.append(f"{path}: expires on {end:%Y-%m-%d}")
    if moment(facts[0]["notBefore"]) > now:
        warnings.append(f"{path}: not valid before {moment(facts[0]['notBefore']):%Y-%m-%d}; is the clock right?")
    for n, (lower, upper) in enumerate(itertools.pairwise(facts), 1):
        if lower["issuer"] != upper["subject"]:
            warnings.append(
                f"{path}: certificate {n + 1} did not issue certificate {n}; "
                "the order is: server, then each one's issuer"
            )
            break
    names = tuple(
        str(ipaddress.ip_address(value.strip())) if kind == "IP Address" else value.lower()
        for kind, value in facts[0].get("subjectAltName", ())
        if kind in ("DNS", "IP Address")
    )
    if not names:
        warnings.append(f"{path}: no subjectAltName; clients will not find their host name in it")
    return CertificateInfo(path, names, end, tuple(warnings))


def moment(text: str) -> datetime.datetime:
    """A time as OpenSSL prints it."""
    return datetime.datetime.fromtimestamp(ssl.cert_time_to_seconds(text), datetime.UTC)


def user() -> str:
    """Who we are, for messages."""
    try:
        import getpass

        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


# ---- the development CA ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DevCA:
    """The CA of this user on this machine: `ca_path` is what clients trust, `created` says whether it was made
    just now.
    """

    directory: Path
    created: bool = False

    @property
    def ca_path(self) -> str:
        """PEM file of the CA certificate."""
        return str(self.directory / "ca.pem")

    @property
    def key_path(self) -> str:
        """PEM file of the CA's key, mode 0600."""
        return str(self.directory / "ca.key")

    def leaf(self, names: Sequence[str] = (), *, client: bool = False) -> tuple[str, str]:
        """Paths of a certificate and key for localhost, the loopback addresses and `names`; made or renewed as
        needed.
        """
        asked = [checked(name) for name in (*ALWAYS, *names)]
        unique = tuple(dict.fromkeys(asked))
        return self.kept(self.directory / "leaves", unique, client)

    def issue(self, names: Sequence[str], directory: str | Path, *, client: bool = False) -> tuple[str, str]:
        """A certificate for exactly `names`, as NAME.pem and NAME.key in `directory`."""
        unique = tuple(dict.fromkeys(checked(name) for name in names))
        if not unique:
            raise ConfigError("no name to issue a certificate for", hint="fairlead cert issue shop.test")
        stem = re.sub(r"[^a-z0-9.-]", "_", unique[0])
        return self.made(Path(directory) / f"{stem}.pem", Path(directory) / f"{stem}.key", unique, client)

    def kept(self, directory: Path, names: tuple[str, ...], client: bool) -> tuple[str, str]:
        digest = hashlib.sha256(repr((sorted(names), client)).encode()).hexdigest()[:12]
        stem = "localhost" if names == ALWAYS and not client else re.sub(r"[^a-z0-9.-]", "_", names[-1]) + "-" + digest
        certificate, key = directory / f"{stem}.pem", directory / f"{stem}.key"
        if fresh(certificate, key, self.ca_path):
            return str(certificate), str(key)
        with locked(self.directory):
            private_directory(directory)
            if not fresh(certificate, key, self.ca_path):
                self.made(certificate, key, names, client)
        return str(certificate), str(key)

    def made(self, certificate: Path, key: Path, names: tuple[str, ...], client: bool) -> tuple[str, str]:
        signer = Signer(Path(self.ca_path), Path(self.key_path))
        own = signer.key_at(key)
        write_whole(certificate, signer.leaf(own, names, client), 0o644)
        return str(certificate), str(key)

    def trust_hint(self) -> str:
        """How to make this system's programs trust the CA, one command a line."""
        return trust_hint(self.ca_path)


def data_home() -> Path:
    """`$XDG_DATA_HOME`, else `~/.local/share` (XDG Base Directory Specification; relative values are ignored)."""
    given = os.environ.get("XDG_DATA_HOME", "")
    return Path(given) if given.startswith("/") else Path.home() / ".local" / "share"


def dev_ca(directory: str | Path | None = None) -> DevCA:
    """The development CA, made on first use. Safe when several processes ask at once."""
    home = Path(directory) if directory else data_home() / "fairlead" / "ca"
    try:
        private_directory(home)
        if usable(home):
            return DevCA(home)
        with locked(home):
            if usable(home):
                return DevCA(home)
            make_ca(home)
    except OSError as error:
        raise ConfigError(
            f"cannot keep the development CA in {home}: {error.strerror}", hint="set XDG_DATA_HOME to a writable place"
        ) from None
    return DevCA(home, created=True)


def usable(home: Path) -> bool:
    """Whether a CA is there, whole, and lives longer than what it would issue."""
    pair = (home / "ca.pem", home / "ca.key")
    return all(path.exists() for path in pair) and fresh(*pair, "", LEAF_DAYS)


def fresh(certificate: Path, key: Path, ca: str, days: int = RENEW_DAYS) -> bool:
    """Whether a pair of ours is there, fits, has some life left, and (with `ca`) was issued by the CA that is
    there now.
    """
    if not certificate.exists() or not key.exists():
        return False
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        info = load_pair(context, str(certificate), str(key))
        newer = bool(ca) and os.stat(ca).st_mtime_ns > os.stat(certificate).st_mtime_ns
    except (ConfigError, OSError):
        return False
    return not newer and info.not_after > datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)


def make_ca(home: Path) -> None:
    """A new key and a self-signed certificate."""
    x509, _hashes, _serialization, _ec, NameOID = tools()
    key = new_key()
    who = f"{user()}@{socket.gethostname()}"[:40]
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Fairlead development CA"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Fairlead {who}"),
        ]
    )
    builder = started(name, name, key.public_key(), CA_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(usage(key_cert_sign=True, crl_sign=True), critical=True)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
    )
    write_whole(home / "ca.key", key_pem(key), 0o600)
    write_whole(home / "ca.pem", signed(builder, key), 0o644)


class Signer:
    """The CA's key and certificate in memory, for as long as it takes to sign."""

    def __init__(self, certificate: Path, key: Path) -> None:
        x509, _hashes, serialization, _ec, _oid = tools()
        self.certificate = x509.load_pem_x509_certificate(certificate.read_bytes())
        self.key = serialization.load_pem_private_key(key.read_bytes(), None)

    def key_at(self, path: Path) -> Any:
        """The leaf's key: the one that is there, else a new one."""
        serialization = tools()[2]
        try:
            return serialization.load_pem_private_key(path.read_bytes(), None)
        except (OSError, ValueError, TypeError):
            key = new_key()
            write_whole(path, key_pem(key), 0o600)
            return key

    def leaf(self, key: Any, names: Sequence[str], client: bool) -> bytes:
        """A signed certificate for `names`."""
        x509, _hashes, _serialization, _ec, NameOID = tools()
        from cryptography.x509.oid import ExtendedKeyUsageOID

        common = next((name for name in names if len(name) <= 64), "fairlead")
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
        authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
            self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        )
        purpose = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        builder = started(subject, self.certificate.subject, key.public_key(), LEAF_DAYS)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(usage(digital_signature=True), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        builder = builder.add_extension(authority, critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName([general_name(n) for n in names]), critical=False)
        return signed(builder, self.key)


def tools() -> tuple[Any, Any, Any, Any, Any]:
    """`cryptography`, loaded when it is needed."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID
    except ImportError:
        raise ConfigError(
            "the development CA needs the package cryptography", hint="pip install 'fairlead[tls]'"
        ) from None
    return x509, hashes, serialization, ec, NameOID


def new_key() -> Any:
    """An ECDSA key on P-256."""
    ec = tools()[3]
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: Any) -> bytes:
    """PKCS #8, not encrypted: the file's mode protects it."""
    serialization = tools()[2]
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def started(subject: Any, issuer: Any, public: Any, days: int) -> Any:
    """The part that all certificates share. An hour of the past forgives clocks that are a little slow."""
    x509 = tools()[0]
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=public)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(hours=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=days))
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)


def usage(**on: bool) -> Any:
    """KeyUsage with only the named bits."""
    bits = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign crl_sign"
    )
    off = dict.fromkeys((*bits.split(), "encipher_only", "decipher_only"), False)
    return tools()[0].KeyUsage(**{**off, **on})


def signed(builder: Any, key: Any) -> bytes:
    """PEM of the certificate, signed with ECDSA and SHA-256."""
    _x509, hashes, serialization, _ec, _oid = tools()
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def checked(name: str) -> str:
    """A host name or address as a certificate holds it; ConfigError when it is neither."""
    bare = name.strip().strip("[]").rstrip(".").lower()
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        pass
    try:
        ascii_name = bare if bare.isascii() else bare.encode("idna").decode()
    except UnicodeError:
        ascii_name = ""
    if not ascii_name or len(ascii_name) > 253 or not NAME.fullmatch(ascii_name):
        raise ConfigError(
            f"{name!r} is neither a host name nor an address", hint="such as shop.test, *.shop.test or 10.0.0.7"
        )
    return ascii_name


def general_name(name: str) -> Any:
    """A SubjectAltName entry."""
    x509 = tools()[0]
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def private_directory(path: Path) -> None:
    """Make it, and its parents, only for us."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def write_whole(path: Path, data: bytes, mode: int) -> None:
    """Write beside, flush, rename: whoever looks sees the old file or the new one, never half."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    import tempfile

    descriptor, beside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Only one process at a time; the lock goes with its holder, however it ends."""
    import fcntl

    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


# ---- trust -----------------------------------------------------------------------------------------------------------


def pin(certificate: str | Path) -> str:
    """The hash of a certificate's public key in base64 (RFC 7469 section 2.4), by which browsers are told to trust it."""
    x509, _hashes, serialization, _ec, _NameOID = tools()
    public = x509.load_pem_x509_certificate(Path(certificate).read_bytes()).public_key()
    spki = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(spki).digest()).decode()


def trust_hint(ca_path: str) -> str:
    """How this system's programs come to trust a CA file, one command a line; the lines after it are comments."""
    import shlex

    ca_path = shlex.quote(ca_path)
    lines = [
        f"curl --cacert {ca_path} https://localhost:8443/    # one command",
        f"export SSL_CERT_FILE={ca_path}    # Python, this shell",
    ]
    if sys.platform == "darwin":
        keychain = "~/Library/Keychains/login.keychain-db"
        lines.append(
            f"security add-trusted-cert -r trustRoot -k {keychain} {ca_path}    # the system, Safari and Chrome"
        )
    elif sys.platform == "win32":
        lines.append(f"certutil -user -addstore Root {ca_path}    # the system, Edge and Chrome")
    else:
        lines.append(linux_hint(ca_path))
        store = '"$HOME/.pki/nssdb"'  # Chromium reads it from its next start on; certutil does not make the folder
        add = f"certutil -d sql:{store} -A -t C,, -n fairlead -i {ca_path}"
        lines.append(f"mkdir -p {store} && {add}    # Chromium, Chrome (certutil: Debian's libnss3-tools)")
        told = "--origin-to-force-quic-on=localhost:8443 https://localhost:8443/"
        lines.append(f"chromium {told}    # the same over HTTP/3, which is for public CAs unless it is told so")
    lines.append("Firefox: Settings, Certificates, Authorities, Import    # has its own store")
    return "\n".join(lines)


def linux_hint(ca_path: str) -> str:
    """Debian's way, or p11-kit's for Fedora, Arch and others."""
    if os.path.isdir("/usr/local/share/ca-certificates"):
        copy = "/usr/local/share/ca-certificates/fairlead-dev.crt"
        return f"sudo cp {ca_path} {copy} && sudo update-ca-certificates    # the system"
    return f"sudo trust anchor {ca_path}    # the system"
