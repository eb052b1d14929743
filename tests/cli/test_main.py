"""The command line as a whole: help, usage errors, packages that are not installed."""

import subprocess
import sys

import pytest

from wsclient.cli import main
from wsclient.version import __version__


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"wsclient {__version__}\n"


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
        (["tail", "ws://localhost", "a", "--option", "depth"], "'depth' is not KEY=VALUE"),
        (["tail", "ws://localhost", "a", "--option", "timeout=1"], "'timeout' cannot be an option"),
        (["tail", "ws://localhost", "a", "--dialect", "klingon"], "generic, kraken"),
        (
            ["tail", "ws://localhost", "a", "--count", "0"],
            "'0' is not a whole number of at least 1",
        ),
        (["tail", "ws://localhost", "a", "--duration", "inf"], "'inf' is not a number"),
        (["doctor"], "URL"),
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
    assert run.end() == 1
    assert run.err.startswith("wsclient: the URL must begin with ws:// or wss://")
    assert run.err.count("\n") == 1
