"""The protocol that answers as the venue did in a recording, connection by connection.

What the venue said waits for the requests before it: it goes out once the client has sent all of
them, in any order. So a replay needs no times, and its answers come when they are due.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wsclient.testing.alike import (
    essence,
    essence_of_path,
    heartbeat_of,
    id_of,
    ids_of,
    with_ids,
    words,
)
from wsclient.testing.conversations import RecordedConnection, RecordedTalk
from wsclient.testing.faultwords import ReplayFault
from wsclient.testing.frames import Payload, close_reason
from wsclient.testing.journal import Traced
from wsclient.testing.protocols import ScriptedProtocol
from wsclient.testing.scrubbing import Scrubber

if TYPE_CHECKING:
    from wsclient.testing.peer import Peer

__all__ = ["TalkProtocol"]

#: How much (characters) of a request is quoted, and how many of those recorded.
EXCERPT, QUOTED = 300, 20


@dataclass(eq=False)
class _Performance:
    """The replay of a recorded connection to one client."""

    peer: Peer
    recorded: RecordedConnection
    #: Whether an earlier client has had it: then it does not end as recorded.
    is_repeated: bool
    #: How much of it was said, and the indexes of the requests that have come.
    position: int = 0
    came: set[int] = field(default_factory=set)
    #: The recorded ids, with those of this client.
    ids: dict[str, str] = field(default_factory=dict)
    #: Whether the next message waits for its time.
    is_waiting: bool = False
    has_waited: bool = False
    #: Whether all was said, and the connection stays open.
    is_done: bool = False


class TalkProtocol(ScriptedProtocol):
    """Replays a recording: the protocol of a `FakeVenue`.

    Each connection gets the first recorded one with its path that no other has got; if there is
    none left, the last one again, which then stays open. With `speed` 2.0 messages come
    in half the recorded times, with None as soon as the requests before them have come.

    `refused(text)` is called for each request that the recording does not have, before its
    connection is closed; `refuse_next(status, body)` when the venue refused the next handshake.
    Both are called under the venue's lock.
    """

    def __init__(
        self,
        talk: RecordedTalk,
        *,
        faults: Sequence[ReplayFault] = (),
        speed: float | None = None,
        refused: Callable[[str], None],
        refuse_next: Callable[[int, bytes], None],
    ) -> None:
        self._faults = tuple(faults)
        self._speed = speed
        self._refused = refused
        self._refuse_next = refuse_next
        self._answers = list(talk.answers)
        self._had: dict[tuple[str, str], bytes] = {}
        self._talk = talk
        self._free: list[RecordedConnection] = []
        self._performances: dict[Peer, _Performance] = {}
        self._count = 0
        self._has_struck = False
        self._pongs: dict[str, tuple[Payload, Payload]] = {}
        for connection in talk.connections:
            self._free.append(_without_heartbeats(connection, self._pongs))
        self._all = [each for each in self._free if each.refusal is None]
        self._essences = {
            id(each): [essence(said.payload) if said.is_sent else None for said in each.said]
            for each in self._all
        }
        self._words = {word for each in self._all for p in each.requests for word in words(p)}

    def begin(self) -> None:
        """Refuse the first handshakes, if the venue did."""
        while self._free and self._free[0].refusal is not None:
            status, body = self._free.pop(0).refusal or (0, b"")
            self._refuse_next(status, body)

    # The protocol

    def greeting(self, peer: Peer) -> Iterable[Payload]:
        path = "/" if peer.request is None else peer.request.path
        place = _place_of(peer)
        fitting = [each for each in self._all if _is_at(each, place)]
        if not fitting:
            paths = dict.fromkeys(str(each.path) for each in self._all)
            self._unknown(peer, f"no connection to {Scrubber().url(path)}", paths)
            return ()
        free = [each for each in fitting if each in self._free]
        recorded = (free or fitting[-1:])[0]
        if free:
            self._free.remove(recorded)
        self.begin()
        performance = _Performance(peer, recorded, is_repeated=not free)
        self._performances[peer] = performance
        self._advance(performance)
        return ()

    def received(self, peer: Peer, payload: Payload) -> Iterable[Payload]:
        performance = self._performances.get(peer)
        if performance is None:
            return ()
        if heartbeat_of(payload) is not None:
            return self._pong(payload)
        index = self._find(performance, payload)
        if index is None:
            self._unrecorded(performance, payload)
            return ()
        performance.came.add(index)
        performance.ids |= ids_of(performance.recorded.said[index].payload, payload)
        self._advance(performance)
        return ()

    def http(self, path: str) -> bytes | None:
        place = essence_of_path(path)
        for index, (where, body) in enumerate(self._answers):
            # A recording of a client has the name of the channel instead of a path.
            if not where.startswith("/") or essence_of_path(where) == place:
                del self._answers[index]
                self._had[place] = body
                return body
        if place not in self._had:
            self._refused(
                f"the recording has no answer to GET {Scrubber().url(path)}"
                f"{_quoted('The recorded answers are to:', [a[0] for a in self._talk.answers])}"
            )
        return self._had.get(place)

    # Requests

    def _find(self, performance: _Performance, payload: Payload) -> int | None:
        """Return which recorded request a client has sent, None if it is none of them."""
        wanted, peer = essence(payload), performance.peer
        index = self._index(performance.recorded, wanted, performance.came)
        if index is not None or performance.came:
            return index
        # Clients may connect in another order: this one may be another recorded connection.
        for other in self._alternatives(performance):
            index = self._index(other.recorded, wanted, ())
            if index is not None:
                swapped = performance.recorded, performance.is_repeated
                performance.recorded, performance.is_repeated = other.recorded, other.is_repeated
                other.recorded, other.is_repeated = swapped
                if other.peer is peer:
                    self._free[self._free.index(performance.recorded)] = other.recorded
                return index
        return None

    def _alternatives(self, performance: _Performance) -> Iterator[_Performance]:
        """Yield what a client that has asked for nothing yet may have connected to instead."""
        peer, place = performance.peer, _place_of(performance.peer)
        free = [_Performance(peer, each, is_repeated=False) for each in self._free]
        rivals = [each for each in self._performances.values() if each.peer.live and not each.came]
        for other in (*free, *rivals):
            recorded = other.recorded
            said = recorded.said[: performance.position]
            is_alike = len(said) == performance.position and not any(each.is_sent for each in said)
            fits = recorded.refusal is None and _is_at(recorded, place)
            if other is not performance and fits and is_alike:
                yield other

    def _index(self, recorded: RecordedConnection, wanted: str, came: Iterable[int]) -> int | None:
        for index, found in enumerate(self._essences[id(recorded)]):
            if found == wanted and index not in came:
                return index
        return None

    def _pong(self, payload: Payload) -> list[Payload]:
        if heartbeat_of(payload) != "ping":
            return []
        pair = self._pongs.get(essence(payload))
        if pair is not None:
            return [with_ids(pair[1], ids_of(pair[0], payload))]
        if isinstance(payload, bytes):
            return [payload.replace(b"ping", b"pong")]
        return [payload.replace("ping", "pong")]

    def _unrecorded(self, performance: _Performance, payload: Payload) -> None:
        peer = performance.peer
        if self._has_struck and words(payload) <= self._words:
            # What a client does about a fault, such as to ask for a new snapshot.
            _note(peer, "this request, after a fault, is not recorded: the connection ends")
            peer.close(1012, "not recorded: connect again")
            return
        scrubber = Scrubber()
        scrubber.learn_sent(payload)  # such as a login, whose secrets may have no names
        shown = scrubber.sent(payload)
        self._unknown(
            peer,
            f"no such request{' any more' if self._was_had(performance, payload) else ''}: "
            f"{_excerpt(shown)}",
            [_excerpt(found) for each in self._all for found in each.requests],
        )

    def _was_had(self, performance: _Performance, payload: Payload) -> bool:
        return self._index(performance.recorded, essence(payload), ()) is not None

    def _unknown(self, peer: Peer, what: str, recorded: Iterable[str]) -> None:
        text = f"the recording has {what}"
        _note(peer, text)
        self._refused(f"{text}{_quoted('Recorded are:', list(recorded))}")
        peer.close(1008, close_reason(text))

    # What the venue said

    def _advance(self, performance: _Performance) -> None:
        """Say all that does not wait for a request."""
        said, peer = performance.recorded.said, performance.peer
        while performance.position < len(said) and not performance.is_waiting:
            if not peer.live:
                return
            utterance = said[performance.position]
            if utterance.is_sent:
                if performance.position not in performance.came:
                    return
            elif self._waits(performance):
                return
            else:
                self._say(performance, utterance.payload)
            performance.position += 1
            performance.has_waited = False
        end = performance.recorded.end
        is_over = performance.position == len(said) and not performance.is_waiting
        if not is_over or not peer.live:
            return
        if end is None or performance.is_repeated:
            if not performance.is_done:
                performance.is_done = True
                _note(peer, "the recording has nothing more for this connection")
        else:
            code, reason = end
            if code is None:
                peer.fin()
            else:
                peer.close(code, reason)

    def _waits(self, performance: _Performance) -> bool:
        """Return whether the next message must wait, and go on when it is due."""
        said, position = performance.recorded.said, performance.position
        delay = 0.0
        if self._speed is not None and position:
            delay = (said[position].time - said[position - 1].time) / 1e9 / self._speed
        late = [fault for fault in self._striking(self._count + 1) if fault.kind == "latency"]
        delay += sum(fault.ms for fault in late) / 1e3
        if performance.has_waited or delay <= 0:
            return False
        performance.is_waiting = True

        def go_on() -> None:
            performance.is_waiting, performance.has_waited = False, True
            self._advance(performance)

        performance.peer.call_later(delay, go_on)
        return True

    def _striking(self, number: int) -> list[ReplayFault]:
        return [fault for fault in self._faults if fault.strikes(number)]

    def _say(self, performance: _Performance, recorded: Payload) -> None:
        peer = performance.peer
        self._count += 1
        payloads = [with_ids(recorded, performance.ids)]
        end: ReplayFault | None = None
        for fault in self._striking(self._count):
            self._has_struck = True
            _note(peer, f"fault {fault.kind} at message {self._count}")
            match fault.kind:
                case "gap":
                    payloads = []
                case "duplicate":
                    payloads = payloads * 2
                case "garbage":
                    payloads = [payload[: len(payload) // 2] for payload in payloads]
                case "silence":
                    peer.mute()
                case "rst" | "fin" | "close":
                    end = fault
        for payload in payloads:
            peer.send(payload)
        if end is None:
            return
        if end.kind == "close":
            peer.close(end.code, "by a fault")
        elif end.kind == "fin":
            peer.fin()
        else:
            peer.rst()


def _without_heartbeats(
    recorded: RecordedConnection, pongs: dict[str, tuple[Payload, Payload]]
) -> RecordedConnection:
    """Return a connection without the client's heartbeats and their answers.

    Their number depends on time. Collects one of each kind in `pongs`, with its answer.
    """
    said = list(recorded.said)
    unwanted: set[int] = set()
    for index, ping in enumerate(said):
        if not ping.is_sent or heartbeat_of(ping.payload) is None:
            continue
        unwanted.add(index)
        number = id_of(ping.payload)
        for other in range(index + 1, len(said)):
            pong = said[other]
            if pong.is_sent or other in unwanted:
                continue
            is_answer = heartbeat_of(pong.payload) == "pong"
            if is_answer or (number is not None and id_of(pong.payload) == number):
                if heartbeat_of(ping.payload) == "ping":
                    unwanted.add(other)
                    pongs.setdefault(essence(ping.payload), (ping.payload, pong.payload))
                break
    kept = [each for index, each in enumerate(said) if index not in unwanted]
    return RecordedConnection(recorded.path, kept, recorded.end, recorded.refusal)


def _is_at(recorded: RecordedConnection, place: tuple[str, str]) -> bool:
    return recorded.path is None or essence_of_path(recorded.path) == place


def _place_of(peer: Peer) -> tuple[str, str]:
    return essence_of_path("/" if peer.request is None else peer.request.path)


def _note(peer: Peer, text: str) -> None:
    peer.venue.trace.append(Traced(time.time_ns(), peer.id, "event", text))


def _excerpt(payload: Payload) -> str:
    text = payload if isinstance(payload, str) else repr(payload)
    return text if len(text) <= EXCERPT else f"{text[:EXCERPT]}... ({len(text)} characters)"


def _quoted(title: str, items: Sequence[str]) -> str:
    found = list(dict.fromkeys(items))
    lines = (
        [f"\n{title}", *(f"\n  {item}" for item in found[:QUOTED])] if found else ["\nIt has none."]
    )
    if len(found) > QUOTED:
        lines.append(f"\n  and {len(found) - QUOTED} more")
    return "".join(lines)
