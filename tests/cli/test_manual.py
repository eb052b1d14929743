"""``wsclient manual``: the list of topics, a page, the pager, an unknown topic."""

from __future__ import annotations

import subprocess
import sys

import pytest

from support.documents import FILES, TOPICS, text_of
from wsclient.cli import main


def test_it_lists_the_topics(capsys):
    assert main(["manual"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == TOPICS
    assert "books            Order books" in lines


@pytest.mark.parametrize("topic", TOPICS)
def test_it_prints_a_page(topic, capsys):
    assert main(["manual", topic]) == 0
    assert capsys.readouterr().out == text_of(topic)


@pytest.mark.parametrize("topic", ["book", "Books", "boooks"])
def test_an_unknown_topic_names_the_closest(topic, capsys):
    assert main(["manual", topic]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (f"wsclient: the manual has no page {topic!r}: did you mean books?\n")


def test_a_topic_that_resembles_none_names_all(capsys):
    assert main(["manual", "../../etc/passwd"]) == 2
    assert capsys.readouterr().err.endswith(f": there are {', '.join(TOPICS)}\n")


def test_a_page_goes_through_the_pager_on_a_terminal(monkeypatch, capfd):
    monkeypatch.setenv("PAGER", "tr a-z A-Z")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["manual", "books"]) == 0
    assert capfd.readouterr().out == text_of("books").upper()


def test_ctrl_c_ends_a_pager_that_does_not_take_it(monkeypatch, capfd):
    code = "import signal; print(signal.getsignal(2) == signal.default_int_handler)"
    monkeypatch.setenv("PAGER", f'{sys.executable} -c "{code}"')
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["manual", "books"]) == 0
    assert capfd.readouterr().out == "True\n"


@pytest.mark.parametrize("pager", ["", "no-such-pager-anywhere"])
def test_without_a_pager_that_works_a_page_is_printed(pager, monkeypatch, capfd):
    monkeypatch.setenv("PAGER", pager)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["manual", "books"]) == 0
    assert capfd.readouterr().out == text_of("books")


def test_a_pager_is_not_used_into_a_pipe():
    done = subprocess.run(
        [sys.executable, "-m", "wsclient", "manual", "books"],
        env={"PAGER": "false", "PYTHONPATH": str(FILES["README"].parent)},
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert (done.returncode, done.stdout) == (0, text_of("books"))
