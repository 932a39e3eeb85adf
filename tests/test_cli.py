"""The command line: exit codes, errors in one line, help with examples."""

import json
import os
import subprocess
import sys

import pytest

from fairlead.core.errors import AppError, ConfigError
from fairlead.run import cli, client, serving


def fairlead(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The command as a process."""
    return subprocess.run(
        [sys.executable, "-m", "fairlead", *words],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **(env or {})},
    )


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help_with_an_example(name, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([name, "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert "example" in text and f"fairlead {name}" in text


@pytest.mark.parametrize("words", [("check",), ("run",), ("job", "cancel"), ("cert", "issue")], ids=" ".join)
def test_help_says_what_a_command_is_for_and_shows_its_own_examples(words, capsys):
    with pytest.raises(SystemExit):
        cli.main([*words, "--help"])
    usage, about, *rest = capsys.readouterr().out.split("\n\n")
    assert usage.startswith(f"usage: fairlead {' '.join(words)}") and usage.count("\n") < 4
    assert about.endswith(".") and not about.startswith("positional")
    examples = [line for line in rest[-1].splitlines() if line.startswith("  fairlead ")]
    assert all(f"fairlead {' '.join(words)} " in line for line in examples)


def test_version_says_how_it_was_built(capsys):
    assert cli.main(["--version"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("fairlead ") and ("compiled" in text or "interpreted" in text)


def test_no_command_shows_the_help_and_is_wrong(capsys):
    assert cli.main([]) == 2
    assert "fairlead run app:app" in capsys.readouterr().out


def test_an_unknown_command_or_option_is_one_line_and_two():
    for words in (("serve",), ("run", "--wrokers", "2", "app:app"), ("run",)):
        done = fairlead(*words)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1 and "--help" in done.stderr


def test_a_target_that_is_neither_file_nor_application_says_what_to_write(capsys):
    assert cli.main(["run", "shop"]) == 2
    assert 'write "shop:app"' in capsys.readouterr().err


def test_a_missing_file_is_named(capsys):
    assert cli.main(["run", "nowhere.toml"]) == 2
    error = capsys.readouterr().err
    assert "nowhere.toml" in error and error.count("\n") == 1


def test_flags_of_an_application_do_not_go_with_a_file(tmp_path, capsys):
    file = tmp_path / "fairlead.toml"
    file.write_text('[[listener]]\nbind = "127.0.0.1:1"\n[[route]]\nrespond = 404\n')
    assert cli.main(["run", str(file), "--bind", "127.0.0.1:2"]) == 2
    assert "write them into the file" in capsys.readouterr().err


def test_an_access_log_that_cannot_be_written_is_one_line_that_says_where_to_name_another(tmp_path):
    file = tmp_path / "fairlead.toml"
    listener = '[[listener]]\nbind = "127.0.0.1:0"\n[[route]]\nrespond = 404\n'
    file.write_text(f'[server]\nworkers = 1\n[log]\naccess = "no/such.log"\n{listener}')
    done = fairlead("run", str(file))
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "cannot write the access log" in done.stderr and "(--access-log, or access of [log]" in done.stderr


class Args:
    debug = False


def test_errors_end_in_their_exit_code_without_a_traceback(capsys):
    def raising(error):
        def run(args):
            raise error

        return run

    assert cli.guarded(raising(ConfigError("wrong")), Args) == 2
    assert cli.guarded(raising(AppError("broken", hint="mend it")), Args) == 1
    assert cli.guarded(raising(KeyboardInterrupt()), Args) == 130
    assert cli.guarded(raising(ZeroDivisionError("ours")), Args) == 1
    error = capsys.readouterr().err
    assert "fairlead: broken (mend it)" in error and "Traceback" not in error


def test_debug_shows_the_traceback():
    done = fairlead("--debug", "run", "shop")
    assert done.returncode == 1 and "Traceback" in done.stderr
    assert "Traceback" not in fairlead("run", "shop").stderr


def test_no_colour_without_a_terminal(capsys):
    cli.main(["run", "shop"])
    assert "\x1b" not in capsys.readouterr().err


def test_commands_for_a_server_say_when_there_is_none(tmp_path):
    for name in ("status", "reload", "drain"):
        done = fairlead(name, "--admin", f"unix:{tmp_path}/none.sock")
        assert done.returncode == 1 and done.stderr.count("\n") == 1 and "none.sock" in done.stderr


def test_an_admin_address_may_be_a_path_or_a_url():
    assert isinstance(client.connection("unix:/run/x.sock"), client.Unix)
    assert isinstance(client.connection("/run/x.sock"), client.Unix)
    assert client.connection("http://127.0.0.1:9901").port == 9901
    assert client.connection("127.0.0.1:9901").port == 9901


def test_check_says_what_is_wrong_as_json(tmp_path):
    file = tmp_path / "fairlead.toml"
    file.write_text("[sevrer]\n")
    done = fairlead("check", str(file), "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)[0]["line"] == 1


def test_a_name_with_a_colon_is_an_application_and_an_existing_file_a_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert serving.is_app("shop.main:app")
    (tmp_path / "odd:name").write_text("")
    assert not serving.is_app("odd:name")
    assert not serving.is_app("fairlead.toml")
