"""The reference page and the help texts, made from the dataclasses: nothing about a setting is written twice.

``python -m fairlead.run.reference FILE`` writes the page; a test compares it with the committed one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from fairlead.run import config as c
from fairlead.run.answers import FILTERS, Filter
from fairlead.run.load import EACH, SECTIONS, variables
from fairlead.run.setting import Setting, default_of, settings

INTRO = """# Configuration reference

Made from the source; `python -m fairlead.run.reference docs/reference/configuration.md` writes it again. The
[guide](../guide/configuration.md) explains the file as a whole.

Durations (`10s`, `1m30s`, `250ms`), sizes (`64KiB`, `1MB`) and rates (`240B/s`, `100/s per client`) are strings with
units. Addresses are `host:port`, `[::1]:port` or `unix:/path`. Secrets are `env:NAME` or `file:PATH`. A table may be
written inline or as a sub-table. A list with one item may be written without brackets.
"""


def page() -> str:
    """The whole page as Markdown."""
    lines = [INTRO]
    for _, setting, key in settings(c.Config):
        assert setting.table is not None
        lines += section(setting.table, f"[[{key}]]" if setting.many else f"[{key}]", key, 2)
    lines.append("## Filters\n\nWritten in `route.filters` by name, or as `{ name = { ... } }`.\n")
    for name, cls in FILTERS.items():
        lines += section(cls, name, f"filters.{name}", 3)
    return "\n".join(lines).rstrip() + "\n"


def section(cls: type, title: str, path: str, level: int) -> Iterator[str]:
    """One table: its doc, its settings, then the tables in it."""
    yield f"{'#' * level} `{title}`\n\n{' '.join((cls.__doc__ or '').split())}\n"
    path = path.removeprefix("route.") if path == "route.app" else path
    env = path.split(".")[0] in (*SECTIONS, *EACH)
    rows = [(f, setting, key) for f, setting, key in settings(cls) if setting.table is None]
    if rows:
        yield "| key | value | default | |\n|---|---|---|---|"
    for f, setting, key in rows:
        default = "required" if setting.required else f"`{shown(setting, default_of(f))}`"
        doc = setting.doc + (f" Variable: `{variable(f'{path}.{key}')}`." if env and variable(f"{path}.{key}") else "")
        assert setting.kind is not None
        yield f"| `{key}` | {cell(setting.kind.name)} | {cell(default)} | {cell(doc)} |"
    if rows:
        yield ""
    for _, setting, key in settings(cls):
        if setting.table is not None and setting.table is not Filter:
            inner = f"{path}.{key}"
            yield from section(
                setting.table, f"[[{inner}]]" if setting.many else f"[{inner}]", inner, min(level + 1, 5)
            )


def shown(setting: Setting, value: object) -> str:
    assert setting.kind is not None
    return setting.kind.show(value)


def variable(path: str) -> str:
    name = "FAIRLEAD_" + path.upper().replace(".", "_")
    return name if name in variables() else ""


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def describe(path: str) -> str:
    """The doc and default of a setting by its key path ("server.pattern"), for ``--help``. Raises KeyError."""
    cls: type = c.Config
    *tables, last = path.split(".")
    for name in tables:
        found = {key: setting for _, setting, key in settings(cls)}[name].table
        if found is None:
            raise KeyError(path)
        cls = found
    f, setting = {key: (f, setting) for f, setting, key in settings(cls)}[last]
    doc = setting.doc.replace("`", "").replace("%", "%%")
    return (
        doc
        if setting.required or setting.kind is None
        else f"{doc} Default: {shown(setting, default_of(f)).replace('%', '%%')}."
    )


def main(arguments: list[str]) -> int:
    """Write the page to the file named, or print it."""
    if not arguments:
        print(page(), end="")
        return 0
    with open(arguments[0], "w", encoding="utf-8") as file:
        file.write(page())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
