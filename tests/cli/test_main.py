"""The command line as a whole: help, usage errors, packages that are not installed."""

import re
import subprocess
import sys

import pytest

from wsclient.cli import main, make_parser
from wsclient.version import __version__


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith(f"wsclient {__version__} (")


def test_python_m_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "wsclient", "--help"], capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 0
    assert done.stdout.startswith("usage: wsclient ")
    assert "wsclient demo" in done.stdout


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "COMMAND"),
        (["nonsense"], "nonsense"),
        (["tail"], "URL"),
        (["tail", "ws://localhost"], "CHANNEL"),
        (["tail", "ws://localhost", "a", "--option", "depth"], "'depth' is not NAME=VALUE"),
        (["tail", "ws://localhost", "a", "--option", "timeout=1"], "'timeout' cannot be an option"),
        (["tail", "ws://localhost", "a", "--dialect", "klingon"], "generic, kraken"),
        (
            ["tail", "ws://localhost", "a", "--count", "0"],
            "'0' is not a whole number of at least 1",
        ),
        (["tail", "ws://localhost", "a", "--duration", "inf"], "'inf' is not a number"),
        (
            ["tail", "ws://localhost", "a", "--option", "pinginterval=1"],
            "did you mean ping_interval?",
        ),
        (
            ["tail", "ws://localhost", "a", "--option", "ping_interval=soon"],
            "ping_interval must be",
        ),
        (["tail", "ws://localhost", "a", "--option", "jitter=1"], "jitter must be True or False"),
        (["tail", "ws://localhost", "a", "--option", "validate=f"], "cannot be given as text"),
        (["tail", "ws://localhost", "a", "--option", "headers=x"], "use --header"),
        (["tail", "ws://localhost", "a", "--header", "canary"], "must be NAME:VALUE"),
        (["tail", "ws://localhost", "a", "--credentials", "/nowhere"], "cannot read /nowhere"),
        (["doctor", "ws://localhost", "--option", "ping_interval=1"], "doctor uses only cookie"),
        (["doctor", "ws://localhost", "--option", "orgin=1"], "did you mean origin?"),
        (["doctor", "ws://localhost", "--option", "depth=1"], "doctor uses only cookie"),
        (["doctor"], "URL"),
        (["doctor", "ftp://localhost"], "the URL must begin with ws://"),
        (["tail", "ftp://localhost", "a"], "the URL must begin with ws://"),
        (["tail", "ws://localhost", "a", "--proxy", "ftp://b"], "proxy must begin with"),
        (["doctor", "ws://localhost", "--timeout", "0"], "'0' is not a number of at least 0.1"),
        (["doctor", "ws://localhost", "--dialect", "klingon"], "generic, kraken"),
        (["demo", "--seconds", "0.5"], "'0.5' is not a number of at least 1"),
        (["demo", "--seconds", "nan"], "'nan' is not a number"),
    ],
)
def test_usage_errors(args, said, capsys):
    assert main(args) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""


def test_a_header_without_a_name_is_not_quoted(capsys):
    assert main(["tail", "ws://localhost", "a", "--header", "canary"]) == 2
    assert "canary" not in capsys.readouterr().err


@pytest.mark.parametrize("content", ['["canary"]', "canary", '{"key": canary}', ""])
def test_credentials_that_cannot_be_read_are_not_quoted(content, tmp_path, capsys):
    path = tmp_path / "keys.json"
    path.write_text(content)
    assert main(["tail", "ws://localhost", "a", "--credentials", str(path)]) == 2
    err = capsys.readouterr().err
    assert "must hold one JSON object" in err
    assert "canary" not in err


@pytest.mark.parametrize("command", ["tail", "doctor"])
def test_credentials_that_the_dialect_cannot_use_are_refused(command, tmp_path, capsys):
    path = tmp_path / "keys.json"
    path.write_text('{"api_key": "canary"}')
    path.chmod(0o600)
    channels = ["a"] if command == "tail" else []
    assert main([command, "wss://localhost", *channels, "--credentials", str(path)]) == 2
    assert "has no login" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["", "demo", "serve", "tail", "doctor", "manual"])
def test_each_help_lists_the_exit_codes(command, capsys):
    assert main([command, "--help"][not command :]) == 0
    text = capsys.readouterr().out.partition("exit codes:\n")[2]
    codes = re.findall(r"^  (\d+) +\S", text, re.MULTILINE)
    assert codes == ["0", "1", "2", "130", "141", "143"]


@pytest.mark.parametrize(
    "args",
    [
        ["URL", "a", "b", "--json", "--count", "1"],
        ["URL", "--json", "--count", "1", "a", "b"],
        ["--json", "URL", "a", "--count", "1", "b"],
        ["URL", "a", "--json", "b", "--count=1"],
        ["--count", "1", "--json", "--", "URL", "a", "b"],
    ],
    ids=" ".join,
)
def test_channels_may_stand_after_options(args):
    found = make_parser().parse_args(["tail", *args])
    assert (found.url, found.channels, found.json, found.count) == ("URL", ["a", "b"], True, 1)


def test_an_unknown_argument_is_refused(capsys):
    assert main(["tail", "ws://localhost", "a", "--josn"]) == 2
    assert "--josn" in capsys.readouterr().err


@pytest.mark.parametrize(
    "args", [("tail", "ws://127.0.0.1:1", "a"), ("doctor", "ws://127.0.0.1:1")]
)
@pytest.mark.parametrize(
    "option", ["--proxy=ftp://127.0.0.1", "--option=subprotocols=a b", "--header=Upgrade:h2c"]
)
def test_an_option_that_cannot_work_is_a_usage_error(args, option, command):
    run = command(*args, option)
    assert run.end() == 2
    assert run.err.startswith("wsclient: ")


def test_it_says_what_to_install(command):
    for name, module, terminal in (
        ("demo", "websockets", None),
        ("demo", "rich", (80, 24)),
        ("serve", "websockets", None),
    ):
        run = command(name, without=(module,), terminal=terminal)
        assert run.end() == 2
        assert run.err == f"wsclient: {name} needs {module}: pip install 'wsclient-market[cli]'\n"
        assert run.out == ""


def test_tail_works_without_the_extra(command):
    run = command("tail", "ftp://localhost", "a", without=("websockets", "rich"))
    assert run.end() == 2
    assert run.err.startswith("wsclient: the URL must begin with ws:// or wss://")
    assert run.err.count("\n") == 1
