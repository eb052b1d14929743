"""How a connection gets subscribe and unsubscribe messages from a dialect.

A dialect may be user code, so it is never called under the core's lock. The connection emits a
:class:`~wsclient.sansio.actions.Consult` action, one at a time, and continues when the answer
arrives. In the meantime the connection may have ended and callers may have changed what they want.
So an answer is used only on the connection that it was made for, and a message only if it names
exactly the channels that its request still has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import takewhile
from typing import Any, NamedTuple

from msgspec.structs import replace

from wsclient.dialect.base import Dialect
from wsclient.dialect.values import Credentials
from wsclient.sansio.actions import Consult
from wsclient.sansio.asked import Asked
from wsclient.sansio.names import Names
from wsclient.sansio.unanswered import Request
from wsclient.stream.codec import encode_made
from wsclient.stream.items import Ack
from wsclient.text import one_line

__all__ = ["Consulting"]

#: How many messages are requested from the dialect at a time.
AT_ONCE = 100


class Refusal(NamedTuple):
    """Why the dialect made no message, as text: an exception's ``__str__`` may be user code."""

    reason: str


class Split(NamedTuple):
    """The channels of one request, split into messages.

    ``refused``: the channels without a message, and why. ``within``: the time (s) within which a
    channel's first message is expected, for channels with such a time.
    """

    batches: list[list[str]]
    refused: dict[str, str]
    within: dict[str, float]


#: Requests, and their channels by the venue's names, as they were passed to the dialect.
Question = list[tuple[Request, dict[str, str]]]


class Order(NamedTuple):
    """A message to make, with everything that the dialect needs for it."""

    subscribe: bool
    names: tuple[str, ...]
    id: int
    options: Mapping[str, Any]


class Consulting:
    """Gets the messages of one connection from the dialect, with at most one open question.

    ``expect`` is called with the time (s) within which each channel's first message is expected,
    None for a channel that may be silent. ``mask`` hides the client's secrets in the texts of
    exceptions that the dialect raises.
    """

    __slots__ = (
        "_asked",
        "_dialect",
        "_expect",
        "_known_as",
        "_mask",
        "_question",
        "address",
        "credentials",
    )

    def __init__(
        self,
        dialect: Dialect,
        asked: Asked,
        names: Names,
        mask: Callable[[str], str] = str,
        expect: Callable[[Mapping[str, float | None]], None] | None = None,
    ) -> None:
        self._dialect = dialect
        self._expect = expect
        self._mask = mask
        self._asked = asked
        self._known_as = names
        self.credentials: Credentials | None = None
        self.address = ""
        #: Identifies the open question; None if there is none.
        self._question: object | None = None

    def opened(self, credentials: Credentials | None, address: str) -> None:
        """Note the credentials and the address of the connection."""
        self.credentials = credentials
        self.address = address

    def ended(self) -> None:
        """Ignore the answer to an open question: the connection has ended."""
        self._question = None

    @property
    def is_waiting(self) -> bool:
        """Whether a question is open."""
        return self._question is not None

    def has_made(self, request: Request) -> bool:
        """Return whether ``request`` has a message that names exactly its current channels."""
        return request.payload is not None and request.names == tuple(self._names(request))

    def ask(self, most: int) -> Consult | None:
        """Return a question for at most ``most`` next messages.

        None while a question is open or nothing waits to be sent.
        """
        requests = self._asked.requests.unsent.first(min(most, AT_ONCE))
        if self.is_waiting or not requests:
            return None
        question = self._question = object()
        is_whole = requests[0].id is None
        requests = list(takewhile(lambda request: (request.id is None) == is_whole, requests))
        asked = [(request, self._names(request)) for request in requests]
        if is_whole:
            groups = [(request.subscribe, tuple(names)) for request, names in asked]
            return Consult(
                partial(_split, self._dialect, self.address, groups, self._mask),
                partial(self._on_split, question, asked),
                partial(self._on_failed, question, asked),
            )
        orders = [Order(r.subscribe, tuple(names), r.id or 0, r.options) for r, names in asked]
        return Consult(
            partial(_make, self._dialect, self.credentials, orders, self._mask),
            partial(self._on_made, question, asked),
            partial(self._on_failed, question, asked),
        )

    def _names(self, request: Request) -> dict[str, str]:
        """Return the channels of a request by the venue's names for them."""
        is_first = request.subscribe or request.id is None
        names = self._known_as.wire if is_first else self._known_as.of
        return dict(zip(names(request.channels), request.channels, strict=True))

    def _on_split(self, question: object, asked: Question, answers: list[Split]) -> None:
        if self._question is not question:
            return
        self._question = None
        requests = [request for request, _ in asked]
        for (request, names), answer in zip(asked, answers, strict=True):
            if self._expect is not None and request.subscribe:
                # Not the channels that have left the request: if they are no longer wanted, nothing
                # would forget what is noted for them.
                wanted = [name for name in names if names[name] in request.channels]
                self._expect({names[name]: answer.within.get(name) for name in wanted})
            for name, reason in answer.refused.items():
                self._asked.refuse(request, (names[name],), reason)
        split = [
            [[names[name] for name in batch] for batch in answer.batches]
            for (_, names), answer in zip(asked, answers, strict=True)
        ]
        self._asked.requests.split(requests, split)

    def _on_made(
        self, question: object, asked: Question, answers: list[Refusal | Ack | str | bytes]
    ) -> None:
        if self._question is not question:
            return
        self._question = None
        for (request, names), answer in zip(asked, answers, strict=True):
            if self._names(request) != names:
                continue  # its channels have changed: asked for again
            if isinstance(answer, Refusal):
                self._asked.refuse(request, tuple(request.channels), answer.reason)
            else:
                request.payload, request.names = answer, tuple(names)
                if isinstance(answer, Ack):  # it may be the dialect's only one
                    request.payload = replace(answer, request_id=request.id)
                    if answer.alias is not None and request.subscribe:
                        self._known_as.add(answer.alias, next(iter(names.values())))
        self._asked.requests.has_changed = True

    def _on_failed(self, question: object, asked: Question, error: Exception) -> None:
        if self._question is not question:
            return
        self._question = None
        reason = f"internal error ({type(error).__name__})"
        for request, names in asked:
            self._asked.refuse(request, tuple(names.values()), reason)


# The functions below run without the lock and do not use the connection.


def _split(
    dialect: Dialect,
    address: str,
    groups: Sequence[tuple[bool, tuple[str, ...]]],
    mask: Callable[[str], str],
) -> list[Split]:
    """Split the channels of each group into messages; each channel goes into exactly one.

    For channels to subscribe to, the dialect is first asked which ones ``address`` does not offer,
    and within which time the others' first messages arrive.
    """
    split: list[Split] = []
    for is_subscribe, names in groups:
        refused: dict[str, str] = {}
        within: dict[str, float] = {}
        if is_subscribe:
            refused = _refused(dialect, address, names, within, mask)
        left = tuple(name for name in names if name not in refused)
        batches: list[list[str]] = []
        try:
            if left:
                batches = _checked(dialect.batches(list(left)), dict.fromkeys(left))
        except BaseException as error:  # noqa: BLE001 - SystemExit too: only these channels fail
            refused.update(dict.fromkeys(left, _refusal(error, mask).reason))
        split.append(Split(batches, refused, within))
    return split


def _refused(
    dialect: Dialect,
    address: str,
    names: Iterable[str],
    within: dict[str, float],
    mask: Callable[[str], str],
) -> dict[str, str]:
    """Return the channels that ``address`` does not offer, and why.

    Adds to ``within`` the time (s) within which the first message of each other channel arrives.
    """
    refused: dict[str, str] = {}
    for name in names:
        try:
            reason = dialect.refusal(name, address)
            if reason is not None:
                refused[name] = one_line(mask(reason))
            elif (seconds := dialect.first_message_within(name)) is not None:
                if not 0 < seconds < float("inf"):
                    raise ValueError(
                        f"first_message_within() must be None or a positive number of seconds, "
                        f"not {seconds!r}"
                    )
                within[name] = float(seconds)
        except BaseException as error:  # noqa: BLE001 - as above
            refused[name] = _refusal(error, mask).reason
    return refused


def _checked(batches: Iterable[Sequence[str]], left: dict[str, None]) -> list[list[str]]:
    """Return the non-empty batches; ValueError unless they have each channel of ``left`` once."""
    found: list[list[str]] = []
    most = len(left)
    for number, batch in enumerate(batches):
        if number >= most:
            raise ValueError("batches() returned more messages than there are channels")
        found.append([])
        for name in batch:
            if name not in left:
                raise ValueError(f"batches() returned {name!r} twice, or was not given it")
            del left[name]
            found[-1].append(name)
    if left:
        raise ValueError(f"batches() left out {', '.join(map(repr, left))}")
    return [batch for batch in found if batch]


def _make(
    dialect: Dialect,
    credentials: Credentials | None,
    orders: Sequence[Order],
    mask: Callable[[str], str],
) -> list[Refusal | Ack | str | bytes]:
    """Make each message by the dialect, and encode it. An Ack stands for no message."""
    made: list[Refusal | Ack | str | bytes] = []
    for order in orders:
        options = order.options
        make = dialect.subscribe if order.subscribe else dialect.unsubscribe
        hook = "subscribe" if order.subscribe else "unsubscribe"
        try:
            if credentials is not None:
                options = {**options, **dialect.access(order.names, credentials)}
            message = make(order.names, order.id, options)
            made.append(message if type(message) is Ack else encode_made(hook, message))
        except BaseException as error:  # noqa: BLE001 - SystemExit too: as above
            made.append(_refusal(error, mask))
    return made


def _refusal(error: BaseException, mask: Callable[[str], str]) -> Refusal:
    try:
        text = f": {mask(str(error))}"
    except BaseException:  # noqa: BLE001 - its text is the user's code
        text = ""
    return Refusal(one_line(f"{type(error).__name__}{text}"))
