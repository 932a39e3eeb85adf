"""``fairlead diagram FILE [-o x.svg|x.mmd]``: a configuration as a picture, from who comes to where things are kept.

Without `-o` the picture is printed as Mermaid text, which is readable as it stands and which GitHub and GitLab draw inside a
```mermaid block. With `-o` the ending says what is written. Nothing is opened but the file; a file with errors gives the lines
that `check` gives. The same file gives the same bytes on every machine.

`python -m fairlead.run.diagram docs` writes the pictures of this project's own documentation.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import Any

from fairlead.core.errors import ConfigError, FairleadError
from fairlead.run import config as c
from fairlead.run.drawing.itself import itself
from fairlead.run.drawing.mermaid import mermaid
from fairlead.run.drawing.reading import read
from fairlead.run.drawing.svg import svg
from fairlead.run.explain import summary, told
from fairlead.run.load import examine, examine_text, loads

MAKERS = {".svg": svg, ".mmd": mermaid}
EXAMPLES = """examples:
  fairlead diagram fairlead.toml -o overview.svg     a picture for a page, light and dark
  fairlead diagram fairlead.toml -o overview.mmd     Mermaid text
  fairlead diagram fairlead.toml                     the same to standard output
"""


def register(subparsers: Any) -> None:
    """Add `diagram` to the command line."""
    diagram = subparsers.add_parser(
        "diagram", help="the overview diagram: clients, listeners, routes, upstreams, topics, stores", epilog=EXAMPLES
    )
    diagram.add_argument("file", help="the configuration file")
    diagram.add_argument(
        "-o", "--output", metavar="FILE", default="", help="write it here: .svg or .mmd (default: Mermaid text to standard output)"
    )
    diagram.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """`fairlead diagram`: 2 when the file has errors, 1 when the picture cannot be written."""
    ending = os.path.splitext(args.output)[1].lower()
    if args.output and ending not in MAKERS:
        raise ConfigError(f"{args.output}: a diagram is written as .svg or .mmd", hint="write -o overview.svg")
    config, problems = examine(args.file)
    errors = [problem for problem in problems if problem.severity == "error"]
    if config is None or errors:
        for problem in errors:
            print(told(problem), file=sys.stderr)
        return 2
    if not args.output:
        sys.stdout.write(mermaid(read(config)))
        return 0
    write(Path(args.output), MAKERS[ending](read(config)))
    print(f"{args.output}: {summary(config)}")
    return 0


def write(path: Path, text: str) -> None:
    """Write a picture; FairleadError when that cannot be done."""
    try:
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise FairleadError(f"{path} cannot be written: {error.strerror}", hint="name a file in a folder that exists") from error


# ---- the pictures of our own documentation --------------------------------------------------------------------------


def demo() -> c.Config:
    """The configuration of `fairlead demo`, with the ports it prefers and folders as they would be called."""
    from fairlead.run.demo import CONFIG

    text = CONFIG.format(
        binds='"127.0.0.1:8443", "[::1]:8443"', http=8080, access="off", folder="demo", stock="stock.sock", chat="chat",
        pipeline="pipeline/page", reports="reports/page", protocols='"h1", "h2", "h3"',
    )  # fmt: skip
    return loads(f'{text}\n[admin]\npage = "127.0.0.1:9900"\n', "fairlead demo")


def shown(page: Path) -> c.Config:
    """The configuration that a page shows, its first TOML block; the files that it names need not exist."""
    text = page.read_text(encoding="utf-8")
    found = re.search(r"```toml\n(.*?)```", text, re.S)
    config, _ = examine_text(found[1] if found else "", "fairlead.toml", env={})
    return config or c.Config()


def pictures(docs: Path) -> dict[str, str]:
    """{name in docs/: what is drawn now}."""
    return {
        "diagram.svg": svg(read(demo())),
        "overview.svg": svg(itself()),
        "shop.svg": svg(read(shown(docs.parent / "README.md"))),
        "guide/configuration.svg": svg(read(shown(docs / "guide" / "configuration.md"))),
    }


if __name__ == "__main__":
    for name, picture in pictures(Path(sys.argv[1])).items():
        write(Path(sys.argv[1]) / name, picture)
