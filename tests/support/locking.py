"""An instrument for locks: it records which are taken while others are held, and what runs then.

Within ``with Instrument() as instrument:`` each lock that :meth:`wsclient.threads.locks.Locks.new`
makes is watched. A violation is one of these:

* a lock is taken by the thread that holds it already;
* locks are taken in an order of kinds that closes a circle, here or in an earlier test;
* user code, logging, I/O or a wait runs on a thread that holds a lock.

User code means each hook of a dialect, and the functions that a client is given: its options, its
URL, those of ``on()`` and of ``on_event()``. Violations are collected, not raised: they must not
change what the code under test does. :meth:`Instrument.check` raises them.

A watched lock is written in Python, so that an interrupt may come between taking it and entering
its section. Tests that interrupt the client do without.
"""

from __future__ import annotations

import functools
import logging
import queue
import socket
import ssl
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType
from typing import Any, NamedTuple

import wsclient
from wsclient import dialects
from wsclient.dialect.base import Dialect
from wsclient.options import Options
from wsclient.threads import waiting
from wsclient.threads.locks import Locks

__all__ = ["Instrument", "Kinds", "Violation"]

#: What may run under a lock, by the module that makes the lock, and why.
EXCEPTIONS: Mapping[str, frozenset[str]] = {
    # It keeps a file number from being given back during the call. The socket never blocks.
    "wsclient.transport.bytestream": frozenset({"socket.send", "socket.recv", "socket.recv_into"}),
}
#: How many frames of a stack a violation shows.
DEPTH = 12
HOOKS = [*(name for name, hook in vars(Dialect).items() if isinstance(hook, FunctionType)), "peek"]
CALLABLE_OPTIONS = ("headers", "credentials", "classify", "validate")
SOCKET_CALLS = ("connect", "connect_ex", "recv", "recv_into", "send", "sendall", "sendto", "accept")


class Violation(NamedTuple):
    """A violation: what happened, in one line, and where."""

    what: str
    stack: str

    def __str__(self) -> str:
        return f"{self.what}\n{self.stack}"


class Kinds:
    """The order in which locks are taken.

    It maps a kind to the kinds taken under it, with a stack of each.
    """

    def __init__(self) -> None:
        self._under: dict[str, dict[str, str]] = {}

    def add(self, held: str, taken: str) -> str | None:
        """Record a pair.

        Returns the circle that it closes, as text; None if there is none.
        """
        pairs = self._under.setdefault(held, {})
        if taken in pairs:
            return None
        pairs[taken] = _stack()
        way = self._way(taken, held, set())
        return None if way is None else " -> ".join([held, *way])

    def _way(self, start: str, end: str, seen: set[str]) -> list[str] | None:
        if start == end:
            return [end]
        seen.add(start)
        for kind in self._under.get(start, ()):
            if kind not in seen and (way := self._way(kind, end, seen)) is not None:
                return [start, *way]
        return None

    @property
    def pairs(self) -> set[tuple[str, str]]:
        return {(held, taken) for held, under in self._under.items() for taken in under}


#: Shared by all tests of a run: a circle may have its parts in different ones.
_KINDS = Kinds()


class _Watched:
    """Stand-in for one lock."""

    def __init__(self, lock: Any, what: str, module: str, instrument: Instrument) -> None:
        self._lock = lock
        self._instrument = instrument
        self.what = what
        self.module = module

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        self._instrument._taking(self)
        is_taken: bool = self._lock.acquire(blocking, timeout)
        if is_taken:
            self._instrument._held.append(self)
        return is_taken

    def release(self) -> None:
        self._instrument._held.remove(self)
        self._lock.release()

    def _is_owned(self) -> bool:
        owned: bool = self._lock._is_owned()
        return owned

    def __repr__(self) -> str:
        return f"<the lock of {self.what}>"


class _Threads(threading.local):
    def __init__(self) -> None:
        self.held: list[_Watched] = []
        #: Set within the instrument: its own actions are not violations.
        self.is_muted = False


class Instrument:
    """Instrument that watches the locks in a ``with`` block; see the module."""

    def __init__(self, kinds: Kinds | None = None) -> None:
        self.kinds = _KINDS if kinds is None else kinds
        self.violations: list[Violation] = []
        #: The kinds of the locks that were made.
        self.made: set[str] = set()
        self._threads = _Threads()
        self._undo: list[Callable[[], None]] = []

    def check(self) -> None:
        """Raise AssertionError if there was a violation."""
        found = {violation.what: violation for violation in self.violations}
        assert not found, "\n\n".join(map(str, found.values()))

    @property
    def _held(self) -> list[_Watched]:
        return self._threads.held

    # What the watched locks and calls report.

    def _taking(self, lock: _Watched) -> None:
        if lock in self._held:
            self._violated(f"the lock of {lock.what} was taken by its holder")
            return
        for held in self._held:
            circle = self.kinds.add(held.what, lock.what)
            if circle is not None:
                self._violated(f"locks are taken in a circle: {circle}")

    def about_to(self, what: str) -> None:
        """Record a violation if a lock is held as user code, logging, I/O or a wait begins."""
        held = [
            lock
            for lock in self._held
            if what not in EXCEPTIONS.get(lock.module, ()) and lock._is_owned()
        ]
        if held:
            kinds = ", ".join(lock.what for lock in held)
            self._violated(f"{what} ran while a lock was held: that of {kinds}")

    def _violated(self, what: str) -> None:
        self.violations.append(Violation(what, _stack()))

    # The patches.

    def __enter__(self) -> Instrument:
        self._watch_locks()
        self._watch_dialects()
        self._watch_user_functions()
        self._watch_calls()
        return self

    def __exit__(self, *_: object) -> None:
        while self._undo:
            self._undo.pop()()

    def _set(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute until the end, as monkeypatch does."""
        if name in vars(owner):
            old = vars(owner)[name]
            self._undo.append(lambda: setattr(owner, name, old))
        else:
            self._undo.append(lambda: delattr(owner, name))
        setattr(owner, name, value)

    def _set_everywhere(self, value: Any, replacement: Any) -> None:
        """Replace ``value`` in each module of the package that has imported it by name."""
        for module in list(sys.modules.values()):
            if getattr(module, "__name__", "").partition(".")[0] != "wsclient":
                continue
            for name, found in list(vars(module).items()):
                if found is value:
                    self._set(module, name, replacement)

    def _wrapped(self, function: Callable[..., Any], what: str) -> Callable[..., Any]:
        if getattr(function, "watched_by", None) is self:
            return function

        def watched(*args: Any, **kwargs: Any) -> Any:
            self.about_to(what)
            return function(*args, **kwargs)

        try:
            functools.update_wrapper(watched, function)
        except (AttributeError, TypeError):
            pass  # a callable object of the user's
        watched.watched_by = self  # type: ignore[attr-defined]
        return watched

    def _watch_locks(self) -> None:
        new = Locks.new

        def watched(locks: Locks, what: str) -> Any:
            module = sys._getframe(1).f_globals.get("__name__", "")
            self.made.add(what)
            return _Watched(new(locks, what), what, module, self)

        self._set(Locks, "new", watched)

    def _watch_dialects(self) -> None:
        find = dialects.find

        def watched(*args: Any) -> Dialect:
            dialect = find(*args)
            self.watch_dialect(dialect)
            return dialect

        self._set_everywhere(find, watched)

    def watch_dialect(self, dialect: Dialect) -> None:
        """Patch the hooks in the dialect's classes.

        The package looks there whether a hook is overridden.
        """
        for kind in type(dialect).__mro__:
            for name in HOOKS:
                hook = vars(kind).get(name)
                if isinstance(hook, FunctionType):
                    wrapped = self._wrapped(hook, f"the dialect's {name}()")
                    if wrapped is not hook:
                        self._set(kind, name, wrapped)
        peek = vars(dialect).get("peek")
        if callable(peek):
            wrapped = self._wrapped(peek, "the dialect's peek()")
            if wrapped is not peek:
                self._set(dialect, "peek", wrapped)

    def _watch_user_functions(self) -> None:
        check = Options.__post_init__

        def check_watched(options: Options) -> None:
            for name in CALLABLE_OPTIONS:
                value = getattr(options, name)
                if callable(value):
                    object.__setattr__(options, name, self._wrapped(value, f"the option {name}"))
            check(options)

        self._set(Options, "__post_init__", check_watched)
        client = wsclient.WebSocketClient
        init, on, on_event = client.__init__, client.on, client.on_event

        @functools.wraps(init)
        def init_watched(self_: Any, url: Any, **options: Any) -> None:
            init(self_, self._wrapped(url, "the url function") if callable(url) else url, **options)

        @functools.wraps(on)
        def on_watched(self_: Any, channel: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
            function = (
                self._wrapped(function, "an on() function") if callable(function) else function
            )
            return on(self_, channel, function, *args, **kwargs)

        @functools.wraps(on_event)
        def on_event_watched(self_: Any, function: Any, *types: Any) -> Any:
            wrapped = self._wrapped(function, "a listener") if callable(function) else function
            return on_event(self_, wrapped, *types)

        self._set(client, "__init__", init_watched)
        self._set(client, "on", on_watched)
        self._set(client, "on_event", on_event_watched)

    def _watch_calls(self) -> None:
        for name in ("handle", "makeRecord"):
            function = getattr(logging.Logger, name)
            self._set(logging.Logger, name, self._wrapped(function, "logging"))
        for kind in (socket.socket, ssl.SSLSocket):
            for name in SOCKET_CALLS:
                if kind is socket.socket or name in vars(kind):
                    function = getattr(kind, name)
                    self._set(kind, name, self._wrapped(function, f"socket.{name}"))
        for name in ("getaddrinfo", "create_connection"):
            self._set(socket, name, self._wrapped(getattr(socket, name), f"socket.{name}"))
        self._set(time, "sleep", self._wrapped(time.sleep, "time.sleep"))
        self._set(threading.Thread, "join", self._wrapped(threading.Thread.join, "a thread's join"))
        self._set_everywhere(waiting.acquire, self._wrapped(waiting.acquire, "a wait"))
        instrument, simple = self, queue.SimpleQueue

        class Watched(simple):  # type: ignore[misc, valid-type]
            def get(self, block: bool = True, timeout: float | None = None) -> Any:
                if block and timeout != 0:
                    instrument.about_to("a wait for a queue")
                return super().get(block, timeout)

        self._set(queue, "SimpleQueue", Watched)
        self._set_everywhere(simple, Watched)


def _stack() -> str:
    """Return the stack of the current thread, without the instrument."""

    def frames() -> Iterator[traceback.FrameSummary]:
        for frame in traceback.extract_stack():
            if frame.filename != __file__:
                yield frame

    return "".join(traceback.format_list(list(frames())[-DEPTH:]))
