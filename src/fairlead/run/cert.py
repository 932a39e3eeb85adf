"""`fairlead cert`: the development CA. Shows it, says how to trust it, issues certificates from it.

`register` adds the command to an argparse sub-parser; each parser sets `run`, a function (args) -> exit code. Paths
go to stdout, so they can be used in scripts; advice goes there too, but not with `--json`.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from fairlead.core.errors import ConfigError
from fairlead.net import certs

EXAMPLES = """examples:
  fairlead cert                                      the CA file, and how to trust it
  fairlead cert issue shop.test '*.shop.test'        shop.test.pem and shop.test.key, here
  fairlead cert issue --client alice.test -o certs   a client certificate, for mutual TLS
  curl --cacert "$(fairlead cert ca --path)" https://localhost:8443/
"""


def register(subparsers: Any) -> None:
    """Add `cert`, `cert ca` and `cert issue` to the command line."""
    shape: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter, "epilog": EXAMPLES}
    cert = subparsers.add_parser("cert", help="the development CA: create, trust hint, issue", **shape)
    ca_options(cert)
    cert.set_defaults(run=show_ca)
    actions = cert.add_subparsers(dest="action", metavar="ca | issue")
    ca = actions.add_parser("ca", help="create the CA if there is none, show its file and how to trust it", **shape)
    ca_options(ca)
    ca.set_defaults(run=show_ca)
    issue = actions.add_parser("issue", help="issue a certificate for host names and addresses", **shape)
    issue.add_argument(
        "names", nargs="+", metavar="NAME", help="host name, *.name or address; the first names the files"
    )
    issue.add_argument(
        "-o", "--out", default=".", metavar="DIR", help="where to write NAME.pem and NAME.key (default: here)"
    )
    issue.add_argument("--client", action="store_true", help="for a client (mutual TLS) in place of a server")
    issue.add_argument("--json", action="store_true", help="print the paths as JSON")
    issue.set_defaults(run=issue_leaf)


def ca_options(parser: argparse.ArgumentParser) -> None:
    """What `cert` and `cert ca` take."""
    parser.add_argument("--json", action="store_true", help="print as JSON")
    parser.add_argument("--path", action="store_true", help="print only the path of the CA file")


def show_ca(args: argparse.Namespace) -> int:
    """Print where the CA is and how to trust it."""
    try:
        ca = certs.dev_ca()
    except ConfigError as error:
        return complain(error)
    if args.json:
        print(json.dumps({"ca": ca.ca_path, "created": ca.created, "trust": ca.trust_hint().splitlines()}, indent=2))
    elif args.path:
        print(ca.ca_path)
    else:
        print(f"{ca.ca_path}{'    # made just now' if ca.created else ''}\n\nTo trust it:")
        print("\n".join(f"  {line}" for line in ca.trust_hint().splitlines()))
    return 0


def issue_leaf(args: argparse.Namespace) -> int:
    """Write a certificate and its key."""
    try:
        ca = certs.dev_ca()
        certificate, key = ca.issue(args.names, args.out, client=args.client)
    except ConfigError as error:
        return complain(error)
    except OSError as error:
        return complain(
            ConfigError(f"{error.filename or args.out}: {error.strerror}", hint="choose another directory with -o")
        )
    if args.json:
        print(json.dumps({"certificate": certificate, "key": key, "ca": ca.ca_path, "names": args.names}, indent=2))
    else:
        print(f"{certificate}\n{key}")
    return 0


def complain(error: ConfigError) -> int:
    """One line on stderr that says what to do."""
    print(f"fairlead: {error}{f' ({error.hint})' if error.hint else ''}", file=sys.stderr)
    return 1
