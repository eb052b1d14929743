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

__all__ = ["pages", "run"]

#: The exit codes of shells for a command that cannot be run, or does not exist.
_NOT_FOUND = (126, 127)


def pages() -> dict[str, str]:
    """Return the texts of all pages by topic, sorted."""
    texts = {
        entry.name.removesuffix(".rst"): entry.read_text("utf-8")
        for entry in (files("wsclient") / "manual").iterdir()
        if entry.name.endswith(".rst")
    }
    return dict(sorted(texts.items()))


def run(args: argparse.Namespace) -> int:
    """Print the list of topics, or a page. Return 2 if there is no such page."""
    known = pages()
    if args.topic is None:
        for topic, text in known.items():
            title, _, _ = text.partition("\n")
            print(f"{topic:<16} {title}")
        return 0
    if args.topic not in known:
        close = get_close_matches(args.topic.lower(), known)
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(known)}"
        complain(f"the manual has no page {args.topic!r}: {hint}")
        return 2
    _show(known[args.topic])
    return 0


def _show(text: str) -> None:
    """Print ``text``: through ``$PAGER`` if that is set and stdout is a terminal."""
    pager = os.environ.get("PAGER")
    if not (pager and sys.stdout.isatty() and _paged(text, pager)):
        sys.stdout.write(text)


def _paged(text: str, pager: str) -> bool:
    """Show ``text`` by a pager. Return False if there is no such command."""
    # Ctrl-C is for the pager, which may use it to end a search. It would inherit SIG_IGN.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        # In a shell, as other programs do it, because $PAGER may have arguments.
        done = subprocess.run(pager, shell=True, input=text, encoding="utf-8", check=False)
    finally:
        signal.signal(signal.SIGINT, before)
    return done.returncode not in _NOT_FOUND
