"""The command line. One sub-command per verb; each is imported when it is asked for, so that `--version` stays quick.

Rules
1. An error is one line on standard error that says what to do; a traceback only with `--debug`. Exit codes: 0 done, 1
   it could not be done, 2 the command or the configuration is wrong.
2. Output for programs (`--json`) and for people goes to standard output, everything else to standard error. Colour
   only on a terminal, and never with NO_COLOR.
3. Ctrl-C drains a server; a second one stops it at once. Any other command ends with 130.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

COMMANDS = (
    "run", "check", "explain", "diagram", "demo", "cert", "status", "reload", "drain", "why", "watch", "verify", "topic", "job",
    "idempotency",
)  # fmt: skip
MODULES = {  # which module registers a command
    "run": "serving",
    "check": "explain",
    "explain": "explain",
    "diagram": "diagram",
    "demo": "demo",
    "cert": "cert",
    "status": "client",
    "reload": "client",
    "drain": "client",
    "why": "client",
    "watch": "watchport",
    "topic": "topic",
    "verify": "verify",
    "job": "jobcli",
    "idempotency": "keycli",
}
EXAMPLES = """examples:
  fairlead run app:app                       serve an application on http://127.0.0.1:8000
  fairlead run app:app --tls dev --reload    over HTTPS, with new workers when the code changes
  fairlead run fairlead.toml                 serve a configuration
  fairlead check fairlead.toml               find every mistake in it
  fairlead demo                              see it all at once
"""


class Parser(argparse.ArgumentParser):
    """argparse with our error line: what is wrong and where help is, in one line."""

    def error(self, message: str) -> NoReturn:
        if wrong := re.fullmatch(r"argument (.*): invalid choice: '(.*)' \(choose from (.*)\)", message):
            known = [word.strip("' ") for word in wrong[3].split(",")]
            meant = difflib.get_close_matches(wrong[2], known, 1)
            what = "command" if wrong[1] == "COMMAND" else wrong[1]
            right = f"did you mean {meant[0]}?" if meant else f"there are {', '.join(known)}"
            message = f'there is no {what} "{wrong[2]}"; {right}'
        if found := re.fullmatch(r"unrecognized arguments: (--[\w-]+).*", message):
            meant = difflib.get_close_matches(found[1], options(self), 1)
            message += f"; did you mean {meant[0]}?" if meant else ""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def parser(only: str = "") -> Parser:
    """The parser; with `only`, just that command's options are imported."""
    top = Parser(
        prog="fairlead",
        description="One server for every way a client can talk to a Python backend.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="store_true", help="print the version, and whether this install is compiled")
    top.add_argument("--debug", action="store_true", help="show tracebacks of our own errors")
    subparsers = top.add_subparsers(metavar="COMMAND", parser_class=Parser)
    for name in dict.fromkeys(MODULES[name] for name in ([only] if only else COMMANDS)):
        try:
            module = importlib.import_module(f"fairlead.run.{name}")
        except ImportError:
            continue
        module.register(subparsers)
    for sub in subparsers.choices.values():
        sub.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    finish(top)
    return top


def options(parser: argparse.ArgumentParser) -> list[str]:
    """Every long option of a parser and of the commands below it."""
    below = [sub for action in parser._actions if isinstance(action, argparse._SubParsersAction) for sub in action.choices.values()]
    own = [name for action in parser._actions for name in action.option_strings if name.startswith("--")]
    return own + [name for sub in below for name in options(sub)]


def finish(parser: argparse.ArgumentParser) -> None:
    """What every command below has in common: its own help says what it is for, and shows the examples that are of it."""
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            continue
        about = {one.dest: one.help or "" for one in action._choices_actions}
        for name, sub in action.choices.items():
            sub.formatter_class = argparse.RawDescriptionHelpFormatter
            says = about.get(name, "")
            sub.description = sub.description or f"{says[:1].upper()}{says[1:]}."
            finish(sub)
            if sub.epilog and sub.epilog == parser.epilog:
                first, *lines = sub.epilog.splitlines()
                sub.epilog = "\n".join([first, *(line for line in lines if f" {name} " in f"{line} ")])


def main(argv: Sequence[str] | None = None) -> int:
    """The `fairlead` command; the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if "--version" in words[:2]:
        from fairlead.run.version import describe

        print(describe())
        return 0
    command = next((word for word in words if not word.startswith("-")), "")
    top = parser(command if command in COMMANDS else "")
    args = top.parse_args(words)
    run: Callable[[argparse.Namespace], int] | None = getattr(args, "run", None)
    if run is None:
        top.print_help()
        return 2
    return guarded(run, args)


def guarded(run: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Run a command; errors as rule 1 says."""
    from fairlead.core.errors import ConfigError, FairleadError

    try:
        return int(run(args) or 0)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except FairleadError as error:
        if args.debug:
            raise
        tell(error)
        return 2 if isinstance(error, ConfigError) else 1
    except Exception as error:
        if args.debug:
            raise
        print(f"fairlead: {type(error).__name__}: {error} (a defect of ours; --debug shows where)", file=sys.stderr)
        return 1


def tell(error: Any) -> None:
    """An error for the user: one line each, what to do at its end; before it what the application itself raised."""
    detail = getattr(error, "detail", "")
    if detail:
        print(detail.rstrip(), file=sys.stderr)
    problems = getattr(error, "problems", None) or []
    for problem in problems:
        print(paint(f"fairlead: {problem}"), file=sys.stderr)
    if not problems:
        hint = f" ({error.hint})" if error.hint else ""
        print(paint(f"fairlead: {error}{hint}"), file=sys.stderr)


def paint(line: str) -> str:
    """An error line, its first word red on a terminal."""
    if not sys.stderr.isatty() or "NO_COLOR" in os.environ:
        return line
    return line.replace("fairlead:", "\x1b[31mfairlead:\x1b[0m", 1)


if __name__ == "__main__":
    sys.exit(main())
