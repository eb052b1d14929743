"""``wsclient demo``, run for real."""

import re
import signal

import pytest

#: The longest time (s) to end on a signal.
PROMPTLY = 1.0
LOSES_ONE = """
from wsclient.cli.demo import Demo
count = Demo._count
Demo._count = lambda self, message: message.sequence == 3 or count(self, message)
"""


def account(text):
    """Return the numbers of the summary."""
    lines = re.findall(r"^ ?([a-z]+) +([\d,]+)(?: ms)?(?:  .*| *)$", text, re.MULTILINE)
    return {name: int(number.replace(",", "")) for name, number in lines}


def bare(text):
    """Return the text of a terminal, without colours and cursor movements."""
    return re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", text).replace("\r", "")


def is_plain(text):
    return text.isascii() and not re.search(r"[\x00-\x09\x0b-\x1f]", text)


def check_account(text):
    numbers = account(text)
    assert numbers["unaccounted"] == 0
    assert numbers["reconnects"] == 1
    assert numbers["missed"] > 0
    assert numbers["published"] == numbers["messages"] + numbers["missed"]
    return numbers


def test_a_pipe_gets_plain_lines(command):
    run = command("demo", "--seconds", "2", without=("rich",))
    assert run.end() == 0
    assert run.err == ""
    assert is_plain(run.out)
    numbers = check_account(run.out)
    gaps = re.findall(r"! gap: \S+ missed (\d+) \(reconnect\)", run.out)
    assert len(gaps) == numbers["gaps"]
    assert sum(map(int, gaps)) == numbers["missed"]
    assert "the connection is cut" in run.out
    assert re.search(r"recovered: the first message \d+ ms after the cut", run.out)
    assert run.out.endswith("\nNothing was lost silently.\n")
    states = re.findall(r"^ *[\d.]+ s  (?:open|reconnecting) .*$", run.out, re.MULTILINE)
    assert len(states) == len(set(states)) > 0


def test_a_terminal_gets_a_screen(command):
    run = command("demo", "--seconds", "2", terminal=(80, 24))
    assert run.end() == 0
    assert run.err == ""
    screen, end = run.out.split("\x1b[?1049l")
    assert screen.startswith("\x1b[?1049h")
    for shown in ("ticker:BTC/USD", "reconnecting", "missing", "missed"):
        assert shown in screen
    assert run.out.rpartition("\x1b[?25")[2].startswith("h")  # the cursor is back
    for frame in (*screen.split("\x1b[H"), end):
        lines = bare(frame).splitlines()
        assert len(lines) <= 24
        assert max(map(len, lines), default=0) <= 80
    text = bare(end)
    check_account(text)
    assert text.rstrip().endswith("Nothing was lost silently.")


@pytest.mark.parametrize(("args", "env"), [(["--plain"], {}), ([], {"NO_COLOR": "1"})])
def test_a_terminal_gets_plain_lines_on_request(command, args, env):
    run = command("demo", *args, terminal=(80, 24), **env)
    run.wait_for("connected")
    run.signal(signal.SIGINT)
    assert is_plain(run.out.replace("\r\n", "\n"))


@pytest.mark.parametrize("moment", ["connected", "the connection is cut"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_with_the_summary_so_far(command, moment, number, code):
    run = command("demo", "--seconds", "1" if moment != "connected" else "12")
    run.wait_for(moment)
    assert run.signal(number) < PROMPTLY
    assert run.end() == code
    assert run.err == ""
    assert account(run.out)["unaccounted"] == 0
    assert "Nothing was lost silently so far." in run.out


def test_ctrl_c_on_a_terminal_restores_the_screen(command):
    run = command("demo", terminal=(60, 20))
    run.wait_for("messages")
    assert run.signal(signal.SIGINT) < PROMPTLY
    assert run.end() == 130
    assert run.err == ""
    assert "\x1b[?25h" in run.out
    assert "so far." in run.out.partition("\x1b[?1049l")[2]


def test_a_closed_pipe_ends_it_quietly(command):
    run = command("demo")
    run.wait_for("connected")
    run.close_out()
    assert run.end() == 141
    assert run.err == ""


def test_an_unaccounted_message_makes_the_exit_code_1(command):
    run = command("demo", "--seconds", "1", before=LOSES_ONE)
    assert run.end() == 1
    assert account(run.out)["unaccounted"] > 0
    assert "NOT ACCOUNTED FOR" in run.out
