"""The calls of callers: each change is posted to the watchdog thread, and settles a waiter."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from wsclient.checks import check_timeout
from wsclient.dialect.values import Credentials
from wsclient.errors import (
    NotConnected,
    OutcomeUnknown,
    SubscriptionError,
    SubscriptionRejected,
    SubscriptionTimeout,
)
from wsclient.events import Event
from wsclient.messages import Gap, Message, Subscription
from wsclient.runtime.checks import check_channels, check_venue_options, forbid_worker_threads
from wsclient.runtime.common import Common
from wsclient.runtime.eventstream import EventStream
from wsclient.runtime.queues import MessageQueue
from wsclient.runtime.watchdog import Watchdog
from wsclient.sansio.life import State
from wsclient.threads.waiting import Waiter

__all__ = ["Calls", "Posted", "SendWaiter"]

#: The dialect of a client without the option ``dialect``, and what to say if it is not answered.
DEFAULT = "generic"
_NO_DIALECT = f"the client speaks the dialect {DEFAULT!r}: most venues need dialect="
ENDED = frozenset({State.CLOSING, State.CLOSED, State.FAILED})


@dataclass
class Posted:
    """A message of a caller: its payload, its request id, and when it was handed over (ns)."""

    payload: str | bytes = ""
    request_id: int | None = None
    sent_at: int | None = None


class SendWaiter(Waiter):
    """Waits until a message of a caller is sent. Without that there is no ``reply``: its waiter
    gets the error, as a caller whose time is over waits for the reply alone.

    A close that does not wait ends it on another thread than the one that sends. So that nothing is
    reported as not sent which was: each of both first writes its own flag (``is_ended``, and
    ``sent_at`` of ``posted``), and then reads the other's.
    """

    __slots__ = ("_posted", "_reply", "is_ended")

    def __init__(self, posted: Posted, reply: Waiter | None = None) -> None:
        super().__init__()
        self._posted = posted
        self._reply = reply
        self.is_ended = False

    def settle(self, error: BaseException | None = None, result: Any = None) -> bool:
        self.is_ended = True
        is_known = error is None or isinstance(error, (NotConnected, OutcomeUnknown))
        if not is_known and self._posted.sent_at is not None:
            cause = error
            error = OutcomeUnknown("the client has ended while the message was being sent")
            error.__cause__ = cause
        is_first = super().settle(error, result)
        if is_first and error is not None and self._reply is not None:
            self._reply.settle(error)
        return is_first


class _PostedCall:
    """A caller's waiter. ``done`` is called with the error, or None, just before it settles."""

    def __init__(self, waiter: Waiter, done: Callable[[BaseException | None], None]) -> None:
        self._waiter = waiter
        self._done = done

    def settle(self, error: BaseException | None = None, result: Any = None) -> None:
        """Settle the waiter. Called by the watchdog, without the core's lock."""
        self._done(error)
        self._waiter.settle(error, result)


class Calls:
    """The calls of one client. A deadline is a time of the core's clock (monotonic s)."""

    __slots__ = ("_core", "_watchdog")

    def __init__(self, core: Common, watchdog: Watchdog) -> None:
        self._core = core
        self._watchdog = watchdog

    def _start(self) -> None:
        """Start the watchdog thread, unless it runs."""
        self._core.check_call()
        self._core.supervisor.life.check()
        self._watchdog.start()

    # The connection.

    def connect(self, waiter: Waiter, deadline: float) -> None:
        """Open the connection; ``waiter`` is settled when it is open or cannot be opened.

        Raises ThreadStartError, as :meth:`Common.check_call` and :meth:`Life.check`, and what the
        dialect's ``default_route()`` raises.
        """
        self._start()
        route = self._core.routes.default()

        def connect() -> None:
            with self._core.lock:
                now = self._core.clock.monotonic()
                self._core.supervisor.connect(waiter, deadline, now, route)

        self._core.ask(waiter, connect)

    def route_of(self, payload: Any) -> str | None:
        """Return the route of a caller's message; None for any route.

        If it has no connection yet, opens one, and waits for it. Raises NotConnected if the client
        is not connected, what :meth:`connect` raises, and what the dialect raises.
        """
        core = self._core
        core.check_call()
        core.supervisor.open_connection()
        route = core.routes.of_request(payload)
        if any(key.route == route for key in core.supervisor.fleet.slots):
            return route
        waiter = Waiter()
        deadline = core.until(core.options.connect_timeout)

        def open_route() -> None:
            with core.lock:
                core.supervisor.connect_route(waiter, deadline, core.clock.monotonic(), route)

        try:
            core.ask(waiter, open_route)
            waiter.wait()
        except BaseException:  # as for connect()
            self.cancel_connect(waiter)
            raise
        return route

    def rotate(self, waiter: Waiter, deadline: float) -> None:
        """Replace all open connections; ``waiter`` is settled when that is done."""

        def rotate() -> None:
            with self._core.lock:
                self._core.supervisor.rotate(waiter, deadline, self._core.clock.monotonic())

        self._core.ask(waiter, rotate)

    def cancel_rotate(self, waiter: Waiter) -> None:
        """Cancel :meth:`rotate`, as its caller has stopped waiting."""

        def cancel() -> None:
            with self._core.lock:
                self._core.supervisor.callers.cancel_rotate(waiter)

        self._core.post(cancel)

    def cancel_connect(self, waiter: Waiter) -> None:
        """Cancel :meth:`connect`, as its caller has stopped waiting."""

        def cancel() -> None:
            with self._core.lock:
                self._core.supervisor.cancel_connect(waiter)

        self._core.post(cancel)

    def send(self, posted: Posted, waiter: SendWaiter, route: str | None) -> None:
        """Send a caller's message on ``route``, None for any.

        ``waiter`` is settled when its bytes are sent, or cannot be.
        """

        def send() -> None:
            with self._core.lock:
                connection = self._core.supervisor.open_connection(route)
                connection.sending.spend(self._core.clock.monotonic())
            posted.sent_at = self._core.clock.time_ns()
            if not waiter.is_ended:
                self._watchdog.send(connection.id, posted.payload, waiter)

        self._core.ask(waiter, send)

    def ping(self) -> None:
        """Send a WebSocket ping now. Raises NotConnected when the connection is not open."""

        def ping() -> None:
            with self._core.lock:
                connection = self._core.supervisor.open_connection()
            self._watchdog.ping(connection.id)

        self._core.call(ping)

    def request(
        self,
        make: Callable[[int, Credentials | None], str | bytes],
        sent: SendWaiter,
        reply: Waiter,
        deadline: float,
        route: str | None,
        posted: Posted,
        answers: int,
    ) -> None:
        """Send the request that ``make`` returns for a new id and a connection's credentials.

        ``sent`` is settled when its bytes are sent, or with an error if they cannot be. ``reply``
        is settled with the venue's answer, or with a list of them if there are to be more than one.
        Raises NotConnected when no connection of ``route`` is open.
        """
        self._core.check_call()
        credentials = self._core.supervisor.open_connection(route).credentials
        request_id = posted.request_id = self._core.supervisor.next_id()
        posted.payload = make(request_id, credentials)

        def request() -> None:
            with self._core.lock:
                connection = self._core.supervisor.open_connection(route)
                if connection.credentials is not credentials:
                    text = "another connection was opened meanwhile: send the request again"
                    raise NotConnected(text)  # what allows the request is of the former one
                connection.replies.begin(request_id, reply, deadline, answers)
                connection.sending.spend(self._core.clock.monotonic())
            posted.sent_at = self._core.clock.time_ns()
            if not sent.is_ended:
                self._watchdog.send(connection.id, posted.payload, sent)

        self._core.ask(sent, request)

    def cancel_request(self, request_id: int) -> None:
        """Cancel :meth:`request`, as its caller has stopped waiting."""

        def cancel() -> None:
            with self._core.lock:
                for connection in self._core.supervisor.connections:
                    connection.replies.cancel(request_id)

        self._core.post(cancel)

    # Channels.

    def subscribe(
        self,
        channels: Sequence[str],
        queue: MessageQueue,
        options: Mapping[str, Any],
        waiter: Waiter,
        deadline: float,
    ) -> None:
        """Subscribe to ``channels``, and add ``queue`` to their routes.

        ``waiter`` is settled when each channel is decided.
        """
        self._core.ask(waiter, partial(self._subscribe, channels, queue, options, waiter, deadline))

    def subscribe_and_wait(
        self,
        channels: tuple[str, ...],
        queue: MessageQueue,
        timeout: float | None,
        options: Mapping[str, Any],
    ) -> None:
        """Subscribe as :meth:`subscribe` does, and block until each channel is decided.

        ``timeout`` (s) bounds the call. Raises as ``client.subscribe()``.
        """
        check_timeout(timeout)
        forbid_worker_threads()
        check_channels(channels)
        check_venue_options(options)
        waiter = Waiter()
        self.subscribe(channels, queue, options, waiter, self._core.until(timeout))
        try:
            waiter.wait()
        except SubscriptionTimeout as error:
            if self._core.dialect.name == DEFAULT and error.failed.keys() >= set(channels):
                error.args = (f"{error}; {_NO_DIALECT}",)
            raise

    def _subscribe(
        self,
        channels: Sequence[str],
        queue: MessageQueue,
        options: Mapping[str, Any],
        waiter: Waiter,
        deadline: float,
    ) -> None:
        def done(error: BaseException | None) -> None:
            failed = _failed(error, channels)
            is_refused = isinstance(error, SubscriptionRejected)
            with self._core.lock:
                self._core.router.settle(waiter, channels, queue, failed, is_refused=is_refused)

        routing = self._core.routes.of(channels, options)  # without the lock: asks the dialect
        with self._core.lock:
            call = _PostedCall(waiter, done)
            self._core.supervisor.subscribe(channels, options, call, deadline, routing)
            self._core.router.ask(channels, queue, waiter)

    def unsubscribe(
        self, channels: Sequence[str], queue: MessageQueue, waiter: Waiter, deadline: float
    ) -> None:
        """Unsubscribe from ``channels``, except those that another queue also gets.

        The routes stay until the venue has answered, since messages may still come. ``waiter`` is
        settled then.
        """
        resigned: list[str] = []

        def done(error: BaseException | None) -> None:
            ended = set(channels).difference(_failed(error, channels))
            with self._core.lock:
                self._core.router.settle(waiter, resigned, queue, ended)

        def unsubscribe() -> None:
            with self._core.lock:
                self._core.supervisor.life.check()
                resigned.extend(self._core.router.resign(channels, queue, waiter))
                mine = [c for c in channels if self._is_sole(c, queue)]
                if mine:
                    self._core.supervisor.unsubscribe(mine, _PostedCall(waiter, done), deadline)
            if not mine:
                done(None)
                waiter.settle()

        self._core.ask(waiter, unsubscribe)

    def drop(
        self,
        channels: Sequence[str],
        queue: MessageQueue,
        waiter: Waiter | None = None,
        deadline: float = float("inf"),
    ) -> None:
        """Close a reader's queue, and unsubscribe from the channels that no other queue gets.

        Takes no lock, so it may be called anywhere.
        """
        drop = self.dropping(channels, queue, waiter, deadline)
        if waiter is None:
            self._core.posts.put(drop)
        else:
            self._core.ask(waiter, drop)

    def dropping(
        self,
        channels: Sequence[str],
        queue: MessageQueue,
        waiter: Waiter | None = None,
        deadline: float = float("inf"),
    ) -> Callable[[], None]:
        """Return the function that :meth:`drop` posts."""

        def drop() -> None:
            queue.close()
            self.leave(channels, queue, waiter or Waiter(), deadline)
            with self._core.lock:
                self._core.router.retire(queue)

        return drop

    def leave(
        self,
        channels: Sequence[str],
        queue: MessageQueue,
        waiter: Waiter,
        deadline: float = float("inf"),
    ) -> None:
        """Remove the routes of ``channels`` to ``queue`` now.

        Unsubscribe from the channels that no other queue gets. Runs on the watchdog thread.
        """
        with self._core.lock:
            mine = [c for c in channels if self._is_sole(c, queue)]
            self._core.router.unroute(channels, queue)
            if self._core.supervisor.state in ENDED:
                mine = []
            if mine:
                self._core.supervisor.unsubscribe(mine, waiter, deadline)
        if not mine:
            waiter.settle()

    def _is_sole(self, channel: str, queue: MessageQueue) -> bool:
        """Return whether the channel is wanted and no other queue gets its messages."""
        is_wanted = channel in self._core.supervisor.wanted
        return is_wanted and not self._core.router.has_others(channel, queue)

    def on(
        self,
        channels: Sequence[str],
        function: Callable[[Message], object],
        options: Mapping[str, Any],
        waiter: Waiter,
        deadline: float,
        added: list[str],
    ) -> None:
        """Subscribe to ``channels``, and call ``function`` with their messages.

        ``added`` has the channels for which :meth:`off` has something to undo.
        """

        def on() -> None:
            with self._core.lock:
                self._core.supervisor.life.check_begun()
            queue = self._core.callbacks.add(channels, function)
            added.extend(channels)
            self._subscribe(channels, queue, options, waiter, deadline)

        self._core.ask(waiter, on)

    def off(self, function: Callable[[Message], object], added: list[str]) -> None:
        """Undo :meth:`on`, if it has taken effect. Takes no lock, so it may be called anywhere."""

        def off() -> None:
            # Only what was added: another call may have added the same function.
            channels, added[:] = tuple(added), ()
            queue, unused = self._core.callbacks.remove(channels, function)
            if queue is not None:
                self.leave(unused, queue, Waiter())

        self._core.posts.put(off)

    # Events.

    def listen(self, stream: EventStream) -> None:
        """Put events into ``stream`` from now on."""
        self._listen(lambda: self._core.event_hub.add(stream))

    def check_recordable(self) -> None:
        """Raise if the client cannot be recorded: it has ended, or belongs to the parent process.

        Raises RuntimeError on a thread of the client.
        """
        forbid_worker_threads()
        self._core.check_call()
        self._core.supervisor.life.check()

    def record(self, attach: Callable[[], None]) -> None:
        """Call ``attach`` on the watchdog thread, which is started if need be."""
        self._start()
        self._core.call(attach)

    def on_event(self, function: Callable[[Event], object], types: tuple[type[Event], ...]) -> None:
        """Call ``function``, on the callbacks thread, with events of these types from now on."""

        def listen() -> None:
            with self._core.lock:
                self._core.supervisor.life.check()
            self._core.callbacks.listen(function, types)
            self._core.event_hub.add(self._core.callbacks.events)

        self._listen(listen)

    def _listen(self, listen: Callable[[], None]) -> None:
        if self._core.supervisor.state not in ENDED:
            self._start()
        self._core.call(listen)

    # The state.

    def subscriptions(self, channels: Sequence[str] | None = None) -> dict[str, Subscription]:
        """Return the subscriptions by channel: all, or only those of ``channels``."""
        self._core.check_call()
        with self._core.lock:
            wanted = self._core.supervisor.wanted
            return {
                entry.channel: Subscription(
                    entry.channel, entry.state, entry.options, self._pending_gap(entry.channel)
                )
                for entry in (wanted if channels is None else wanted.among(channels))
            }

    def _pending_gap(self, name: str) -> Gap | None:
        channel = self._core.supervisor.upkeep.channels.get(name)
        return self._core.router.pending_gap(name, None if channel is None else channel.pending)


def _failed(error: BaseException | None, channels: Sequence[str]) -> Collection[str]:
    """Return those of a call's ``channels`` that its ``error`` is about."""
    if error is None:
        return ()
    return error.failed if isinstance(error, SubscriptionError) else channels
