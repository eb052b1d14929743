"""A progress bar on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from wsclient.cli.terminal import is_rich

__all__ = ["progress"]


@contextmanager
def progress(text: str) -> Iterator[Callable[[float], object] | None]:
    """Show a bar on stderr, if that is a terminal and rich is installed, until the context ends.

    Yields the function to call with the share (0 to 1) that is done; None if there is no bar.
    """
    if not is_rich(sys.stderr):
        yield None
        return
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError:
        yield None
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(text, total=1.0)
        yield lambda done: bar.update(task, completed=done)
