"""The README and the pages of the manual: their blocks, and how a Python block is run."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import docutils.core
import docutils.nodes

import wsclient
from wsclient.testing import FakeVenue, Feed, venues

PACKAGE = Path(wsclient.__file__).parent
README = Path(__file__).parents[2] / "README.rst"
#: The documents by name: the README, and each page by its topic.
FILES = {"README": README} | {
    path.stem: path for path in sorted((PACKAGE / "manual").glob("*.rst"))
}
#: The names of the pages.
TOPICS = [name for name in FILES if name != "README"]


class Block(NamedTuple):
    """A literal block: its language, the title of its section, and its text.

    ``is_before``: it is code for another client, which is not run.
    """

    language: str
    title: str
    text: str
    is_before: bool = False


def text_of(name: str) -> str:
    return FILES[name].read_text("utf-8")


@cache
def document(name: str) -> Any:
    """Return a document as docutils reads it. Fail for a warning."""
    warnings = io.StringIO()
    settings = {"report_level": 2, "halt_level": 5, "warning_stream": warnings}
    tree = docutils.core.publish_doctree(
        text_of(name), source_path=str(FILES[name]), settings_overrides=settings
    )
    assert not warnings.getvalue()
    return tree


def title_of(name: str) -> str:
    return str(document(name)[0].astext())


def section_of(node: Any) -> str:
    """Return the title of the section that a node stands in."""
    while not isinstance(node, (docutils.nodes.section, docutils.nodes.document)):
        node = node.parent
    return str(node[0].astext())


def table(name: str, title: str, number: int = 0) -> list[list[str]]:
    """Return the rows of a table in a section, as the texts of their cells."""
    tables = document(name).findall(docutils.nodes.table)
    found = [each for each in tables if section_of(each) == title][number]
    (body,) = found.findall(docutils.nodes.tbody)
    return [[" ".join(cell.astext().split()) for cell in row] for row in body]


def blocks(name: str) -> list[Block]:
    """Return the blocks of a document that name their language."""
    found = []
    for node in document(name).findall(docutils.nodes.literal_block):
        languages = [kind for kind in node["classes"] if kind not in ("code", "before")]
        if languages:
            is_before = "before" in node["classes"]
            found.append(Block(languages[0], section_of(node), node.astext(), is_before))
    return found


def python_blocks(name: str) -> list[Block]:
    """Return the Python blocks of a document, without code for other clients."""
    return [b for b in blocks(name) if b.language == "python" and not b.is_before]


def block(name: str, title: str, number: int = 0) -> str:
    """Return a Python block: the one with this number in the section ``title``."""
    return [b.text for b in python_blocks(name) if b.title == title][number]


def section(name: str, title: str) -> str:
    """Return the source of a section, without its title."""
    _, _, rest = text_of(name).partition(f"\n{title}\n{'-' * len(title)}\n")
    assert rest, f"no section {title!r}"
    return re.split(r"\n[^\n]+\n-{3,}\n", rest)[0]


def not_run(name: str, source: str) -> list[str]:
    """Return the calls of ``block()`` that are not in ``source``: one for each Python block."""
    wanted, seen = [], dict[str, int]()
    for each in python_blocks(name):
        number = seen[each.title] = seen.get(each.title, -1) + 1
        more = f", {number}" if number else ""
        wanted.append(f'block("{name}", "{each.title}"{more})')
    return [call for call in wanted if call not in source]


@contextmanager
def served(dialect: str, *channels: str, rate: float = 200.0) -> Iterator[FakeVenue]:
    """Serve made-up data of these channels as ``wsclient serve`` does."""
    protocol = venues.find(dialect).served()
    with (
        FakeVenue(protocol, channels=channels) as venue,
        Feed(venue, dict.fromkeys(channels, rate / len(channels)), seed=1),
    ):
        yield venue


@contextmanager
def lively(venue: FakeVenue, channels: list[str]) -> Iterator[None]:
    """Publish on every channel, again and again."""
    stop = threading.Event()

    def run() -> None:
        price = 0
        while not stop.wait(0.005):
            price += 1
            for channel in channels:
                venue.publish(channel, price=price, last=price)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def run_block(
    code: str,
    namespace: dict[str, Any],
    clients: list[Any],
    messages: int = 0,
    done: Callable[[], bool] = lambda: True,
) -> None:
    """Run a block as it stands; one that loops for ever is ended by closing its client.

    That is done when the client has handed out ``messages`` messages, and ``done()`` is true.
    """
    errors: list[BaseException] = []

    def run() -> None:
        try:
            exec(compile(code, "<block>", "exec"), namespace)
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    for _ in range(2000):
        thread.join(0.005)
        if not thread.is_alive():
            break
        if messages:
            for client in clients:
                stats = client.stats()
                if stats.messages - stats.queued >= messages and done():
                    client.close()
    assert not thread.is_alive(), "the block did not end"
    if errors:
        raise errors[0]
