"""The pytest plugin of wsclient: fake and recorded venues as fixtures.

It is loaded by its entry point wherever wsclient is installed. So this module imports nothing but
pytest and typing; the rest is imported when a fixture is first used.

PYTEST_DONT_REWRITE: there is no assert here for pytest to rewrite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from wsclient.testing import FakeVenue, FaultProxy, RecordedVenue

#: The name of the section of a report, and of this plugin.
SECTION = "wsclient venue"

#: The venues of a test: fake ones and recorded ones.
_VENUES = pytest.StashKey["list[FakeVenue | RecordedVenue]"]()
#: The texts that its report must not show.
_SECRETS = pytest.StashKey["list[str]"]()
#: Whether its function has passed: a test that was skipped has not.
_PASSED = pytest.StashKey[bool]()
#: How many of the requests that are not recorded have been reported.
_REPORTED = pytest.StashKey[int]()
#: An id of this run, the same in all its processes.
_RUN = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("wsclient", "recorded venues (wsclient)")
    group.addoption(
        "--venue-record",
        choices=("none", "once", "rewrite"),
        default="none",
        help="tests marked venue_recording: replay the recording (none, the default), record the "
        "real venue if there is none (once), or record it always (rewrite)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "fake_venue(protocol='generic', **options): "
        "the arguments of wsclient.testing.FakeVenue for the fixture fake_venue",
    )
    config.addinivalue_line(
        "markers",
        "venue_recording(folder, url=None, rest=None, faults=(), scrub=(), speed=None, "
        "dialect='generic'): "
        "the recording of the fixture recorded_venue; the folder is relative to the test's file",
    )


# Fixtures.


@pytest.fixture
def make_fake_venue(request: pytest.FixtureRequest) -> Iterator[Callable[..., FakeVenue]]:
    """Return a function that makes and starts a venue: wsclient.testing.FakeVenue(...).

    It takes the arguments of FakeVenue. All venues are closed after the test.
    """
    from wsclient.testing import FakeVenue

    made: list[FakeVenue] = []

    def make(*args: Any, **options: Any) -> FakeVenue:
        venue = FakeVenue(*args, **options)
        venue.start()
        made.append(venue)
        _venues_of(request.node).append(venue)
        return venue

    yield make
    for venue in reversed(made):
        venue.close()


@pytest.fixture
def fake_venue_options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the arguments of the fixture fake_venue: those of the marks fake_venue.

    Override it to have others in a file or a folder. The mark of a test goes before that of its
    class and of its module.
    """
    options: dict[str, Any] = {}
    for mark in reversed(list(request.node.iter_markers("fake_venue"))):
        if len(mark.args) > 1:
            pytest.fail("the mark fake_venue has one argument without a name: the protocol")
        options |= {**dict(zip(("protocol",), mark.args, strict=False)), **mark.kwargs}
    return options


@pytest.fixture
def fake_venue(
    make_fake_venue: Callable[..., FakeVenue], fake_venue_options: dict[str, Any]
) -> FakeVenue:
    """Return a fake venue on a port of its own: a started wsclient.testing.FakeVenue.

    It speaks the generic protocol, unless the test is marked, such as
    ``@pytest.mark.fake_venue("kraken", channels=["trade:BTC/USD"])``.
    """
    return make_fake_venue(**fake_venue_options)


@pytest.fixture
def fault_proxy(fake_venue: FakeVenue) -> Iterator[FaultProxy]:
    """Return a proxy in front of fake_venue, whose connections fail on request.

    It is a wsclient.testing.FaultProxy. Connect the client to its ``url``.
    """
    from wsclient.testing import FaultProxy

    with FaultProxy(fake_venue.url) as proxy:
        yield proxy


@pytest.fixture
def venue_scrub() -> Iterable[str]:
    """Return texts that must not be recorded, besides what looks like a secret: none.

    Override it to name yours, such as those of the environment.
    """
    return ()


@pytest.fixture
def recorded_venue(
    request: pytest.FixtureRequest, venue_scrub: Iterable[str]
) -> Iterator[RecordedVenue]:
    """Return the venue of the recording that the test is marked with.

    The mark is ``@pytest.mark.venue_recording("folder", url="wss://...")``. Connect the client to
    ``recorded_venue.url``. By ``pytest --venue-record=once`` that is the real venue, which is
    recorded; later it is the recording. It is a wsclient.testing.RecordedVenue.
    """
    from wsclient.testing import RecordedVenue

    folder, options = _recording_of(request.node)
    mode = request.config.getoption("--venue-record")
    scrub = [*options.pop("scrub", ()), *venue_scrub]
    request.node.stash[_SECRETS] = scrub
    try:
        venue = RecordedVenue(
            request.node.path.parent / folder,
            options.pop("url", None),
            mode=mode,
            scrub=scrub,
            name=request.node.nodeid,
            run=_run_of(request.config),
            **options,
        )
        venue.__enter__()
    except ValueError as error:  # ConfigurationError is one
        advice = "" if mode != "none" else "\nTo record it: pytest --venue-record=once"
        pytest.fail(f"venue_recording({folder!r}): {error}{advice}", pytrace=False)
    try:
        _venues_of(request.node).append(venue)
        yield venue
        text = _unknown(request.node)  # such as of a client that was closed after the test
        if text:
            pytest.fail(text, pytrace=False)
        if venue.is_recording and request.node.stash.get(_PASSED, False):
            venue.keep()
    finally:
        venue.close()


def _recording_of(item: pytest.Item) -> tuple[str, dict[str, Any]]:
    mark = item.get_closest_marker("venue_recording")
    names = {"url", "rest", "faults", "scrub", "speed", "dialect"}
    if mark is None or len(mark.args) != 1 or mark.kwargs.keys() - names:
        pytest.fail(
            "recorded_venue needs the mark venue_recording('folder', url='wss://...'); "
            f"it has also the arguments {', '.join(sorted(names - {'url'}))}",
            pytrace=False,
        )
    return mark.args[0], dict(mark.kwargs)


def _run_of(config: pytest.Config) -> str:
    """Return an id of this run: that of pytest-xdist, if its processes share one."""
    shared = getattr(config, "workerinput", {}).get("testrunuid")
    if shared is not None:
        return str(shared)
    if _RUN not in config.stash:
        import secrets

        config.stash[_RUN] = secrets.token_hex(16)
    return config.stash[_RUN]


def _venues_of(item: pytest.Item) -> list[FakeVenue | RecordedVenue]:
    return item.stash.setdefault(_VENUES, [])


# Reports.


def _unknown(item: pytest.Item) -> str:
    """Return which requests the recordings of a test do not have, each once; empty for none."""
    found = [
        text for venue in item.stash.get(_VENUES, []) for text in getattr(venue, "unknown", ())
    ]
    new = found[item.stash.get(_REPORTED, 0) :]
    item.stash[_REPORTED] = len(found)
    return "\n".join([*new, "To record it again: pytest --venue-record=rewrite"]) if new else ""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    try:
        result = yield
    except Exception as error:
        # Python 3.10 has no notes: there the fixture reports it after the test.
        if hasattr(error, "add_note") and (text := _unknown(item)):
            error.add_note(text)
        raise
    text = _unknown(item)
    if text:
        pytest.fail(text, pytrace=False)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[_PASSED] = report.when == "call" and report.passed
    if report.failed and item.stash.get(_VENUES, []):
        report.sections.append((SECTION, _journal_of(item)))
    return report


def _journal_of(item: pytest.Item) -> str:
    from wsclient.testing import RecordedVenue
    from wsclient.testing.traces import lines_of

    secrets = item.stash.get(_SECRETS, [])
    lines: list[str] = []
    for venue in item.stash[_VENUES]:
        if isinstance(venue, RecordedVenue):
            title = f"{'recording' if venue.is_recording else 'replay of'} {venue.folder}"
            if venue.is_recording and venue.faults:
                title += " (faults are added to replays only: there were none)"
        else:
            dialect = getattr(venue.protocol, "dialect", None)
            title = f"FakeVenue {getattr(dialect, 'name', venue.protocol)} at {venue.url}"
        lines += lines_of(title, list(venue.trace), secrets)
    return "\n".join(lines)
