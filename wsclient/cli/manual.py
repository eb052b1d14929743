"""``wsclient manual``: print the pages of the manual, which are part of the package."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from difflib import get_close_matches
from importlib.resources import files

from wsclient.cli.terminal import complain

__all__ = ["page", "run", "topics"]

_PAGES = files("wsclient") / "manual"
#: The exit codes of shells for a command that cannot be run, or does not exist.
_NOT_FOUND = (126, 127)


def topics() -> dict[str, str]:
    """Return what each page is about, by its topic."""
    names = sorted(entry.name for entry in _PAGES.iterdir() if entry.name.endswith(".rst"))
    return {name.removesuffix(".rst"): _subject(name.removesuffix(".rst")) for name in names}


def page(topic: str) -> str:
    """Return the text of a page."""
    return (_PAGES / f"{topic}.rst").read_text("utf-8")


def run(args: argparse.Namespace) -> int:
    """Print the list of topics, or a page. Return 2 if there is no such page."""
    if args.topic is None:
        for topic, subject in topics().items():
            print(f"{topic:<16} {subject}")
        return 0
    known = topics()
    if args.topic not in known:
        close = get_close_matches(args.topic.lower(), known)
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(known)}"
        complain(f"the manual has no page {args.topic!r}: {hint}")
        return 2
    _show(page(args.topic))
    return 0


def _subject(topic: str) -> str:
    """Return the title of a page, which is its first line."""
    return page(topic).partition("\n")[0]


def _show(text: str) -> None:
    """Print ``text``: through ``$PAGER`` if that is set and stdout is a terminal."""
    pager = os.environ.get("PAGER")
    if not (pager and sys.stdout.isatty() and _paged(text, pager)):
        sys.stdout.write(text)


def _paged(text: str, pager: str) -> bool:
    """Show ``text`` by a pager. Return False if there is no such command."""
    # Ctrl-C is for the pager, which may use it to end a search.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        # In a shell, as other programs do it, because $PAGER may have arguments.
        done = subprocess.run(pager, shell=True, input=text, encoding="utf-8", check=False)
    finally:
        signal.signal(signal.SIGINT, before)
    return done.returncode not in _NOT_FOUND
