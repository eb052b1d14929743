"""The pytest plugin, used by the tests of another project."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import Any, get_args, get_type_hints

import pytest

from support.documents import block, text_of
from wsclient.testing import FakeVenue, ReplayFault, read_recording

#: The plugin is named, and its entry point left out: whether that is installed does not matter.
OPTIONS = ("-p", "no:wsclient", "-p", "wsclient.pytest_plugin", "-p", "no:cacheprovider", "-q")
Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a file of tests in a project of its own."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeini("[pytest]\nfilterwarnings = error\naddopts = --strict-markers\n")

    def run(source: str | None = None, *args: str, **values: Any) -> pytest.RunResult:
        if source is not None:
            text = textwrap.dedent(source)
            for name, value in values.items():
                text = text.replace(f"<{name}>", str(value))
            pytester.makepyfile(test_it=f"import pytest, wsclient\n\n{text}")
        return pytester.runpytest_inprocess(*OPTIONS, *args)

    return run


@pytest.fixture
def real() -> Iterator[FakeVenue]:
    """The real venue."""
    with FakeVenue("kraken") as venue:
        yield venue


def test_fake_venues_are_fixtures(run: Run) -> None:
    result = run(
        """
        def read(url, venue, channel, **options):
            with wsclient.connect(url, **options) as client:
                client.subscribe(channel)
                venue.publish(channel, price=1)
                return client.recv(timeout=5).data["price"]

        def test_generic(fake_venue):
            assert read(fake_venue.url, fake_venue, "a") == 1

        @pytest.mark.fake_venue("kraken", channels=["trade:BTC/USD"])
        class TestKraken:
            def test_marked(self, fake_venue):
                assert read(fake_venue.url, fake_venue, "trade:BTC/USD", dialect="kraken") == 1
                assert fake_venue.channels == ["trade:BTC/USD"]

            @pytest.mark.fake_venue(channels=["trade:ETH/USD"])
            def test_the_nearest_mark_wins(self, fake_venue):
                assert fake_venue.channels == ["trade:ETH/USD"]
                assert "Kraken" in type(fake_venue.protocol).__name__

        class TestOverridden:
            @pytest.fixture
            def fake_venue_options(self):
                return {"protocol": None, "seed": 5}

            def test_it(self, fake_venue):
                assert fake_venue.seed == 5

        def test_proxy(fake_venue, fault_proxy):
            assert read(fault_proxy.url, fake_venue, "a") == 1

        made = []

        def test_factory(make_fake_venue):
            made.extend([make_fake_venue(), make_fake_venue("okx", seed=3)])
            assert made[0].port != made[1].port

        def test_all_are_closed():
            assert all(venue.closing.is_set() for venue in made)
        """
    )
    result.assert_outcomes(passed=7)


def test_a_failure_shows_what_happened_at_the_venues(run: Run) -> None:
    result = run(
        """
        def test_it(fake_venue, make_fake_venue):
            make_fake_venue("okx")
            with wsclient.connect(fake_venue.url + "?token=hidden1") as client:
                client.subscribe("a", token="hidden2")
                fake_venue.publish("a", price=1, text="hidden2 " + "x" * 500)
                fake_venue.publish("nobody", price=1)
                assert client.recv(timeout=5).data["price"] == 2

        def test_no_venue():
            assert 0

        def test_good(fake_venue):
            pass
        """
    )
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(
        [
            "*- wsclient venue -*",
            "FakeVenue generic at ws://127.0.0.1:*/",
            "  ??:??:??.???  connection 1   -- connected",
            '  ??:??:??.???  connection 1   -> {"type":"subscribe",*"token":"[*][*][*]"*',
            "  ??:??:??.???  connection 1   -- subscribed to a",
            '  ??:??:??.???  connection 1   <- {"type":"subscription",*"status":"success"}',
            "  ??:??:??.???  venue          -- published a 1 to 1 connection",
            '  ??:??:??.???  connection 1   <- {*"text":"[*][*][*] xx*xx... (5?? characters)',
            "  ??:??:??.???  venue          -- published nobody 1 without a subscriber",
            "  ??:??:??.???  connection 1   -- gone: client close 1000",
            "FakeVenue okx at ws://127.0.0.1:*/",
            "  no client has connected",
        ],
        consecutive=True,
    )
    text = result.stdout.str()
    assert text.count("wsclient venue") == 1
    assert "hidden" not in text.partition("wsclient venue")[2].partition("____")[0]


def test_a_long_journal_is_cut(run: Run) -> None:
    result = run(
        """
        def test_it(fake_venue):
            for number in range(100):
                fake_venue.publish("a", price=number)
            assert 0
        """
    )
    lines = [line for line in result.outlines if "published a" in line]
    assert len(lines) == 50
    assert lines[-1].endswith("published a 100 without a subscriber")
    result.stdout.fnmatch_lines(["  (earlier lines are left out: 50 or more)"])


RECORDING = """
    import os

    @pytest.mark.venue_recording("recordings/one", url="<url>", scrub=["mysecret"])
    def test_it(recorded_venue):
        with wsclient.connect(recorded_venue.url, dialect="kraken") as client:
            client.subscribe("<channel>")
            if recorded_venue.is_recording:
                <publish>
            assert client.recv(timeout=5).data["price"] == <price>
"""


@pytest.fixture
def publishing(real: FakeVenue, monkeypatch: pytest.MonkeyPatch) -> str:
    """A line that has the real venue publish."""
    monkeypatch.setattr(FakeVenue, "of_the_test", real, raising=False)
    return (
        "from wsclient.testing import FakeVenue; "
        "FakeVenue.of_the_test.publish('trade:BTC/USD', price=1)"
    )


def test_a_venue_is_recorded_once_and_replayed(
    run: Run, real: FakeVenue, publishing: str, pytester: pytest.Pytester
) -> None:
    values = {"url": real.url, "channel": "trade:BTC/USD", "price": 1, "publish": publishing}
    result = run(RECORDING, **values)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*venue_recording('recordings/one'): there is no recording in *recordings*one",
         "*To record it: pytest --venue-record=once"]
    )  # fmt: skip
    run(None, "--venue-record=once").assert_outcomes(passed=1)
    folder = pytester.path / "recordings" / "one"
    assert [path.name for path in folder.iterdir()] == ["venue.mcap"]
    written = (folder / "venue.mcap").read_bytes()
    run(None, "--venue-record=rewrite").assert_outcomes(passed=1)
    assert (folder / "venue.mcap").read_bytes() != written
    attempts = real.attempts
    real.down()
    for args in ((), ("--venue-record=none",), ("--venue-record=once",)):
        run(None, *args).assert_outcomes(passed=1)
    assert real.attempts == attempts


def test_a_test_that_fails_does_not_replace_its_recording(
    run: Run, real: FakeVenue, publishing: str, pytester: pytest.Pytester
) -> None:
    values = {"url": real.url, "channel": "trade:BTC/USD", "publish": publishing}
    run(RECORDING, "--venue-record=rewrite", price=2, **values).assert_outcomes(failed=1)
    assert not (pytester.path / "recordings" / "one").exists()
    run(RECORDING, "--venue-record=rewrite", price=1, **values).assert_outcomes(passed=1)
    file = pytester.path / "recordings" / "one" / "venue.mcap"
    written = file.read_bytes()
    result = run(RECORDING, "--venue-record=rewrite", price=2, **values)
    result.assert_outcomes(failed=1)
    assert file.read_bytes() == written
    result.stdout.fnmatch_lines(["*- wsclient venue -*", "*connection 1*-> *subscribe*"])


def test_a_test_that_is_skipped_is_not_recorded(
    run: Run, real: FakeVenue, pytester: pytest.Pytester
) -> None:
    result = run(
        """
        @pytest.mark.venue_recording("one", url="<url>")
        def test_it(recorded_venue):
            with wsclient.connect(recorded_venue.url, dialect="kraken"):
                pytest.skip("not today")
        """,
        "--venue-record=once",
        url=real.url,
    )
    result.assert_outcomes(skipped=1)
    assert not (pytester.path / "one").exists()


def test_a_request_that_is_not_recorded_fails_the_test(
    run: Run, real: FakeVenue, publishing: str
) -> None:
    values = {"url": real.url, "price": 1, "publish": publishing}
    run(RECORDING, "--venue-record=once", channel="trade:BTC/USD", **values)
    result = run(
        """
        @pytest.mark.venue_recording("recordings/one")
        def test_its_errors_are_caught(recorded_venue):
            with wsclient.connect(recorded_venue.url, dialect="kraken") as client:
                try:
                    client.subscribe("trade:ETH/USD")
                except wsclient.WSClientError:
                    pass
        """
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "the recording has no such request: *ETH/USD*",
            "Recorded are:",
            "  *subscribe*BTC/USD*",
            "To record it again: pytest --venue-record=rewrite",
        ],
        consecutive=True,
    )


def test_faults_are_added_to_a_replay(run: Run, real: FakeVenue, publishing: str) -> None:
    values = {"url": real.url, "channel": "trade:BTC/USD", "price": 1, "publish": publishing}
    run(RECORDING, "--venue-record=once", **values)
    result = run(
        """
        from wsclient.testing import ReplayFault

        FAULTS = [ReplayFault("rst", at=2), "gap:at=1"]

        @pytest.mark.venue_recording("recordings/one", faults=FAULTS)
        def test_it(recorded_venue):
            options = {"dialect": "kraken", "max_retry_delay": 0.01}
            with wsclient.connect(recorded_venue.url, **options) as client:
                client.subscribe("trade:BTC/USD")
                assert client.recv(timeout=5).data["price"] == 1
                assert client.stats().reconnects == 1

        @pytest.mark.venue_recording("recordings/one", faults="rest:at=2")
        def test_bad(recorded_venue):
            pass
        """
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*there is no fault 'rest', only rst, *"])


FAULTY = """
    @pytest.mark.venue_recording("recordings/one", url="<url>", faults=["rst:at=2"])
    def test_faulty(recorded_venue):
        options = {"dialect": "kraken", "max_retry_delay": 0.01}
        with wsclient.connect(recorded_venue.url, **options) as client:
            events = client.events(wsclient.events.Disconnected)
            client.subscribe("trade:BTC/USD")
            if recorded_venue.is_recording:
                pytest.fail("nothing will happen here")
            events.recv(timeout=5)
"""


def test_a_test_with_faults_replays_what_another_one_records(
    run: Run, real: FakeVenue, publishing: str
) -> None:
    values = {"url": real.url, "channel": "trade:BTC/USD", "price": 1, "publish": publishing}
    source = textwrap.dedent(RECORDING) + textwrap.dedent(FAULTY)
    run(source, "--venue-record=once", **values).assert_outcomes(passed=2)
    run(None, "--venue-record=rewrite").assert_outcomes(passed=2)


def test_a_test_with_faults_that_fails_while_it_records_is_told_why(
    run: Run, real: FakeVenue
) -> None:
    result = run(textwrap.dedent(FAULTY), "--venue-record=once", url=real.url)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["recording *one (faults are added to replays only: there were *"])


def test_two_tests_do_not_record_into_one_folder(
    run: Run, real: FakeVenue, publishing: str
) -> None:
    values = {"url": real.url, "channel": "trade:BTC/USD", "price": 1, "publish": publishing}
    source = textwrap.dedent(RECORDING)
    other = source.replace("test_it", "test_other")
    result = run(source + other, "--venue-record=rewrite", **values)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*test_it.py::test_it has recorded into *each test needs*"])


def test_secrets_can_be_named_by_a_fixture(
    run: Run, real: FakeVenue, pytester: pytest.Pytester
) -> None:
    result = run(
        """
        @pytest.fixture
        def venue_scrub():
            return ["XBT/USD"]

        @pytest.mark.venue_recording("one", url="<url>")
        def test_it(recorded_venue):
            with wsclient.connect(recorded_venue.url, dialect="kraken") as client:
                client.subscribe("trade:XBT/USD")
        """,
        "--venue-record=once",
        url=real.url,
    )
    result.assert_outcomes(passed=1)
    payloads = [item.payload for item in read_recording(pytester.path / "one")]
    assert any(b"***" in payload for payload in payloads)
    assert not any(b"XBT/USD" in payload for payload in payloads)


def test_the_mark_is_checked(run: Run) -> None:
    result = run(
        """
        def test_none(recorded_venue):
            pass

        @pytest.mark.venue_recording("one", fault="rst:at=1")
        def test_unknown(recorded_venue):
            pass
        """
    )
    result.assert_outcomes(errors=2)
    lines = [line for line in result.outlines if line.startswith("recorded_venue needs the mark")]
    assert len(lines) == 2


def test_without_websockets_the_error_names_the_extra(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("wsclient.testing")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "websockets", None)
    result = run("def test_it(fake_venue): pass")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*pip install 'wsclient-market[[]testing]'*"])


# The manual.


def test_the_fixtures_of_the_manual(run: Run) -> None:
    run(block("testing", "Fixtures for pytest")).assert_outcomes(passed=3)


def test_the_recording_of_the_manual(run: Run, real: FakeVenue) -> None:
    real.protocol.set_snapshot("ticker:BTC/USD", last=1)  # type: ignore[attr-defined]
    code = block("testing", "Recordings of the real venue").replace(
        "wss://ws.kraken.com/", real.url
    )
    run(code, "--venue-record=once").assert_outcomes(passed=1)
    real.down()
    run(None).assert_outcomes(passed=1)


def test_the_manual_has_each_fault() -> None:
    named = re.findall(r"^``(\w+:\S+)`` ", text_of("testing"), re.MULTILINE)
    assert {ReplayFault.parse(text).kind for text in named} == {
        *get_args(get_type_hints(ReplayFault)["kind"])
    }


# What it costs.


@pytest.mark.slow
def test_the_plugin_imports_nothing_before_a_fixture_is_used() -> None:
    code = """
        import sys, pytest
        before = set(sys.modules)
        import wsclient.pytest_plugin
        print(*sorted(set(sys.modules) - before))
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert set(ran.stdout.split()) <= {"wsclient", "wsclient.pytest_plugin", "wsclient.version"}


@pytest.mark.slow
def test_its_journal_comes_from_the_processes_of_xdist(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile("def test_it(fake_venue): assert 0")
    result = pytester.runpytest_subprocess(*OPTIONS, "-p", "xdist", "-n1")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*- wsclient venue -*", "FakeVenue generic at *"])
