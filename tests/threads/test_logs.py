"""The contents of log records; no user's code blocks or ends a thread that logs."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import threading
import time
import traceback
from typing import Any

import pytest

from support.helpers import Call, until
from support.logrig import Blocking, Memory, listening, making, threaded
from wsclient.threads import logs
from wsclient.threads.logs import DEBUG_LIMIT, LIMIT, ClientLog, flush, silence

LOG = ClientLog("me", "wss://venue.example")
PATIENCE = 10.0
#: Longer (s) than a call without a wait takes on a busy machine; shorter than any wait here.
AT_ONCE = 5.0


def fail(_: object) -> bool:
    raise LookupError


def log_all(*texts: str) -> None:
    for text in texts:
        LOG(logging.INFO, text)


class TestRecords:
    def test_say_what_they_are_about(self) -> None:
        memory = Memory()
        with threaded(), listening(memory):
            LOG(logging.WARNING, "100 % lost", connection_id=3, channel="trade")
            LOG(logging.INFO, "closed", logger="wsclient.callbacks")
            assert flush(PATIENCE)
        assert memory.texts == ["me: 100 % lost", "me: closed"]
        assert [record.name for record in memory.records] == ["wsclient", "wsclient.callbacks"]
        first, second = map(vars, memory.records)
        assert first["levelno"] == logging.WARNING
        assert (first["client"], first["venue"]) == ("me", "wss://venue.example")
        assert (first["connection_id"], first["channel"]) == (3, "trade")
        assert (second["connection_id"], second["channel"]) == (None, None)

    def test_name_the_place_where_they_come_from(self) -> None:
        memory = Memory()
        with threaded(), listening(memory):
            log_all("x")
            assert flush(PATIENCE)
        (record,) = memory.records
        assert (record.filename, record.funcName) == ("test_logs.py", "log_all")
        assert record.lineno == log_all.__code__.co_firstlineno + 2

    def test_have_the_time_and_thread_of_their_origin(self) -> None:
        blocking, memory = Blocking(), Memory()
        with threaded(), listening(memory, blocking):
            log_all("the one that blocks")
            assert blocking.is_in.wait(PATIENCE)
            before = time.time()
            thread = threading.Thread(target=log_all, args=("waits",), name="origin")
            thread.start()
            ident = thread.ident
            thread.join()
            after = time.time()
            while time.time() < after + 0.01:
                pass  # the log thread would have another millisecond
            blocking.go.set()
            assert flush(PATIENCE)
        record = memory.records[1]
        assert (record.thread, record.threadName) == (ident, "origin")
        assert before <= record.created <= after
        assert record.msecs == pytest.approx(record.created % 1 * 1000, abs=1.01)
        start = memory.records[0].created - memory.records[0].relativeCreated / 1000
        assert record.created - record.relativeCreated / 1000 == pytest.approx(start, abs=0.001)

    def test_come_in_the_order_of_the_calls(self) -> None:
        memory = Memory()
        texts = [str(number) for number in range(500)]
        with threaded(), listening(memory):
            log_all(*texts)
            assert flush(PATIENCE)
        assert memory.texts == [f"me: {text}" for text in texts]

    @pytest.mark.parametrize("is_passed", [True, False])
    def test_keep_the_traceback(self, is_passed: bool) -> None:
        memory = Memory()
        with threaded(), listening(memory):
            try:
                fail(None)
            except LookupError as error:
                LOG(logging.ERROR, "x", exc_info=error if is_passed else True)
            assert flush(PATIENCE)
        (record,) = memory.records
        assert record.exc_info is not None
        kind, error, trace = record.exc_info
        assert kind is LookupError
        assert isinstance(error, LookupError)
        assert [frame.name for frame in traceback.extract_tb(trace)][-1] == "fail"

    def test_below_the_logger_s_level_are_not_made(self) -> None:
        made: list[object] = []

        def factory(*args: Any) -> logging.LogRecord:
            made.append(args)
            return logging.LogRecord(*args)

        with threaded(), listening(), making(factory):
            LOG(logging.DEBUG, "x")
            assert flush(PATIENCE)
        assert made == []

    def test_are_not_kept_after_they_have_been_handled(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # caplog would keep them.
        monkeypatch.setattr(logging.getLogger("wsclient"), "propagate", False)

        class Mine(Exception):
            alive = 0

            def __init__(self) -> None:
                Mine.alive += 1

            def __del__(self) -> None:
                Mine.alive -= 1

        with threaded(), listening():
            LOG(logging.ERROR, "x", exc_info=Mine())
            assert flush(PATIENCE)
            assert Mine.alive == 0


def factory_of(change: Any) -> Any:
    """A record factory that makes a normal record and returns the result of a change to it."""

    def factory(*args: Any, **kwargs: Any) -> Any:
        return change(logging.LogRecord(*args, **kwargs))

    return factory


def set_our_names(record: logging.LogRecord) -> logging.LogRecord:
    vars(record).update(client="theirs", venue=1, channel=2, connection_id=3)
    return record


class TestUsersCode:
    @pytest.mark.parametrize("place", ["handler", "filter"])
    @pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit])
    def test_that_raises_loses_its_record_only(
        self, place: str, error: type[BaseException]
    ) -> None:
        def act(record: logging.LogRecord) -> bool:
            if "bad" in record.getMessage():
                raise error
            return True

        memory = Memory(act) if place == "handler" else Memory()
        with threaded() as thread, listening(memory, act if place == "filter" else None):
            log_all("one", "bad", "two")
            assert flush(PATIENCE)
            assert memory.texts[0] == "me: one"
            assert memory.texts[-1] == "me: two"
            assert thread.failed == thread.not_logged == 1

    @pytest.mark.parametrize("change", [fail, lambda _: None, lambda _: 1 / 0])
    def test_that_makes_no_record_is_replaced(self, change: Any) -> None:
        memory = Memory()
        with threaded() as thread, listening(memory), making(factory_of(change)):
            LOG(logging.INFO, "x", channel="trade")
            assert flush(PATIENCE)
            assert thread.not_logged == 0
        assert memory.texts == ["me: x"]
        assert vars(memory.records[0])["channel"] == "trade"

    def test_that_sets_our_names_is_overruled(self) -> None:
        memory = Memory()
        with threaded(), listening(memory), making(factory_of(set_our_names)):
            LOG(logging.INFO, "x", channel="trade")
            assert flush(PATIENCE)
        found = vars(memory.records[0])
        assert (found["client"], found["venue"]) == ("me", "wss://venue.example")
        assert (found["channel"], found["connection_id"]) == ("trade", None)

    def test_may_log_through_us(self) -> None:
        memory = Memory(lambda record: record.levelno == logging.ERROR and log_all("answer"))
        with threaded(), listening(memory):
            LOG(logging.ERROR, "question")
            until(lambda: memory.texts == ["me: question", "me: answer"])

    def test_may_flush_without_waiting_for_itself(self) -> None:
        took: list[float] = []

        def act(_: object) -> None:
            began = time.monotonic()
            flush(60)
            took.append(time.monotonic() - began)

        with threaded(), listening(Memory(act)):
            log_all("one", "two")
            assert flush(PATIENCE)
        assert max(took) < AT_ONCE


class TestBlocked:
    def test_the_call_returns_and_the_rest_comes_later(self) -> None:
        memory = Memory(blocking := Blocking())
        with threaded(), listening(memory):
            log_all("one")
            assert blocking.is_in.wait(PATIENCE)
            log_all("two", "three")
            assert not flush(0)
            blocking.go.set()
            assert flush(PATIENCE)
        assert memory.texts == ["me: one", "me: two", "me: three"]

    def test_too_many_records_are_dropped_and_their_number_is_logged(self) -> None:
        memory = Memory(blocking := Blocking())
        with threaded() as thread, listening(memory):
            log_all("first")
            assert blocking.is_in.wait(PATIENCE)
            log_all(*(["waits"] * LIMIT), "lost", "lost", "lost")
            assert thread.dropped == thread.not_logged == 3
            blocking.go.set()
            assert flush(PATIENCE)
        assert memory.texts.count("me: waits") == LIMIT
        assert "me: lost" not in memory.texts
        (report,) = [text for text in memory.texts if "not logged" in text]
        assert report.startswith("wsclient-log: 3 records were not logged: 3 found too many")

    def test_records_of_frames_leave_room_for_others(self) -> None:
        memory = Memory(blocking := Blocking())
        with threaded() as thread, listening(memory):
            logging.getLogger("wsclient").setLevel(logging.DEBUG)
            log_all("first")
            assert blocking.is_in.wait(PATIENCE)
            for _ in range(DEBUG_LIMIT + 3):
                LOG(logging.DEBUG, "frame")
            LOG(logging.WARNING, "disconnected")
            assert thread.dropped == 3
            blocking.go.set()
            assert flush(PATIENCE)
        assert "me: disconnected" in memory.texts

    def test_flush_gives_up_in_time(self) -> None:
        with threaded(), listening(Memory(blocking := Blocking())):
            log_all("x")
            began = time.monotonic()
            assert not flush(0.05)
            assert 0.05 <= time.monotonic() - began < AT_ONCE
            blocking.go.set()

    def test_end_gives_up_in_time_and_nothing_is_logged_afterwards(self) -> None:
        memory = Memory(blocking := Blocking())
        before = set(threading.enumerate())
        with threaded() as thread, listening(memory):
            log_all("one", "two")
            assert blocking.is_in.wait(PATIENCE)
            (log_thread,) = set(threading.enumerate()) - before
            Call(thread.end).result(AT_ONCE)
            log_all("three")
            blocking.go.set()
            until(lambda: not log_thread.is_alive())
        assert memory.texts == ["me: one"]


class TestReports:
    def test_come_before_the_next_record_and_say_what_was_raised(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(logs, "REPORT_EVERY", 0.0)
        memory = Memory(fail)
        with threaded(), listening(memory):
            log_all("bad", "bad")
            assert flush(PATIENCE)
            memory.act = lambda _: None
            log_all("good")
            assert flush(PATIENCE)
        report, good = memory.texts
        assert report.startswith("wsclient-log: 2 records were not logged")
        assert "raised LookupError for 2" in report
        assert good == "me: good"
        found = vars(memory.records[0])
        assert [found[n] for n in ("client", "venue", "channel", "connection_id")] == [None] * 4

    def test_are_rare_but_a_flush_has_them_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(logs, "REPORT_EVERY", 3600.0)

        def act(record: logging.LogRecord) -> None:
            if "bad" in record.getMessage():
                raise LookupError

        memory = Memory(act)
        with threaded(), listening(memory):
            log_all("bad", "good", "bad", "good", "bad", "good")
            assert flush(PATIENCE)
        numbers = [text.split()[1] for text in memory.texts if "not logged" in text]
        assert numbers == ["1", "2"]


class TestStart:
    def test_nothing_runs_before_something_is_logged(self) -> None:
        before = threading.active_count()
        with threaded():
            assert flush(0)
            assert threading.active_count() == before

    def test_a_thread_that_the_system_cannot_start_is_tried_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(_: object) -> None:
            raise RuntimeError("can't start new thread")

        memory = Memory()
        with threaded(), listening(memory):
            with monkeypatch.context() as patch:
                patch.setattr(threading.Thread, "start", refuse)
                log_all("one", "two")
                assert not flush(0)
            assert memory.texts == []
            log_all("three")
            assert flush(PATIENCE)
        assert memory.texts == ["me: one", "me: two", "me: three"]

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    def test_a_killed_one_is_replaced(self) -> None:
        idents: set[int] = set()
        memory = Memory(lambda _: idents.add(threading.get_ident()))
        with threaded(), listening(memory):
            log_all("one")
            assert flush(PATIENCE)
            (ident,) = idents
            raised = ctypes.py_object(SystemExit)
            assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), raised) == 1
            flush(0)  # wakes the thread
            until(lambda: not any(t.ident == ident for t in threading.enumerate()))
            log_all("two")
            until(lambda: "me: two" in memory.texts)

    def test_two_at_once_do_not_make_two(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A signal handler logs while the thread that it interrupted is starting it."""
        launch, depth = logs.launch, 0

        def interrupted(thread: threading.Thread) -> None:
            nonlocal depth
            depth += 1
            if depth == 1:
                log_all("from the signal handler")
            launch(thread)

        idents: list[int] = []
        memory = Memory(lambda _: idents.append(threading.get_ident()))
        with threaded(), listening(memory):
            with monkeypatch.context() as patch:
                patch.setattr(logs, "launch", interrupted)
                log_all("interrupted")
            log_all(*(["x"] * 100))
            assert flush(PATIENCE)
        assert depth == 2
        assert len(memory.texts) == 102
        assert len(set(idents)) == 1


class TestAnywhere:
    def test_while_the_locks_of_logging_are_held(self) -> None:
        memory = Memory()
        with threaded() as thread, listening(memory):
            assert memory.lock is not None
            with logging._lock, memory.lock:  # type: ignore[attr-defined]
                Call(log_all, "x").result(AT_ONCE)
                assert not thread.flush(0)
            assert flush(PATIENCE)
        assert memory.texts == ["me: x"]

    @pytest.mark.skipif(os.name != "posix", reason="needs POSIX timers")
    def test_in_a_signal_handler_that_interrupts_it(self) -> None:
        memory = Memory()
        fired = 0

        def log(*_: object) -> None:
            nonlocal fired
            fired += 1
            log_all("signal")

        before = signal.signal(signal.SIGALRM, log)
        try:
            with threaded() as thread, listening(memory):
                signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
                logged = 0
                while fired < 200:
                    log_all("main")
                    logged += 1
                    if logged % 100 == 0:
                        flush(PATIENCE)
                signal.setitimer(signal.ITIMER_REAL, 0)
                assert flush(PATIENCE)
                assert thread.not_logged == 0
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert memory.texts.count("me: signal") == fired
        assert memory.texts.count("me: main") == logged


class TestUnderPytest:
    def test_caplog_has_a_record_at_once(self, caplog: pytest.LogCaptureFixture) -> None:
        LOG(logging.WARNING, "x", channel="trade")
        assert [record.getMessage() for record in caplog.records] == ["me: x"]
        assert vars(caplog.records[0])["channel"] == "trade"

    @pytest.mark.parametrize("error", [ValueError, SystemExit])
    def test_a_handler_that_raises_is_guarded_too(self, error: type[BaseException]) -> None:
        def act(_: object) -> None:
            raise error

        with listening(Memory(act)):
            log_all("x")

    def test_ctrl_c_is_the_caller_s(self) -> None:
        def act(_: object) -> None:
            raise KeyboardInterrupt  # as if a Ctrl-C came while the handler runs

        with listening(Memory(act)):
            with pytest.raises(KeyboardInterrupt):
                log_all("x")
            Call(log_all, "x").result()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_logs_by_itself_while_the_parent_s_log_is_blocked() -> None:
    blocking, memory = Blocking(), Memory()
    reading, writing = os.pipe()
    with threaded(), listening(memory, blocking), open(reading) as said:
        log_all("parent")
        assert blocking.is_in.wait(PATIENCE)
        log_all("waits in the parent")
        child = os.fork()
        if child == 0:
            blocking.go.set()
            log_all("child")
            os.write(writing, f"{memory.texts} {flush(0)}\n".encode())
            os._exit(0)
        os.close(writing)
        answer = Call(said.read).result()
        os.waitpid(child, 0)
        blocking.go.set()
        assert flush(PATIENCE)
    assert answer == "['me: child'] True\n"
    assert memory.texts == ["me: parent", "me: waits in the parent"]


class TestSilence:
    def test_runs_nothing_of_the_user_s_where_it_is_ours(self) -> None:
        name = "wsclient-test-silence"
        here = threading.local()
        logger = logging.getLogger(name)
        seen: list[str] = []

        def see(record: logging.LogRecord) -> logging.LogRecord:
            seen.append(record.getMessage())
            return record

        logger.addFilter(lambda record: bool(see(record)))  # before ours
        silence(name, lambda: getattr(here, "is_ours", False))
        with listening(name=name), making(factory_of(see)):
            logger.error("theirs")
            here.is_ours = True
            logger.error("ours")
            here.is_ours = False
        assert seen == ["theirs", "theirs"]


def test_a_fork_within_a_handler_ends_the_childs_thread() -> None:
    """The process does not really fork: the test calls the thread's ``forked()``."""
    with threaded() as thread:
        memory = Memory(lambda _: thread.forked())
        with listening(memory):
            log_all("x")
            until(lambda: memory.texts)
            until(lambda: not any(t.name == "wsclient-log" for t in threading.enumerate()))
