"""``on()`` functions, called one after the other on a thread of their own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from wsclient.errors import WSClientError
from wsclient.messages import Message
from wsclient.runtime.mailbox import Mailbox
from wsclient.runtime.waiting import Deadline

__all__ = ["Callbacks"]

logger = logging.getLogger("wsclient.callbacks")


class Callbacks:
    """Takes from its mailbox until that is closed. Both the mailbox and the thread are made for the
    first function: most clients have none."""

    def __init__(self, new_mailbox: Callable[[], Mailbox], name: str) -> None:
        self._new_mailbox = new_mailbox
        self.errors = 0
        self._name = name
        #: Protects the table and the thread's start; never held while a function runs.
        self._lock = threading.Lock()
        self._functions: dict[str, tuple[Callable[[Message], object], ...]] = {}
        self._thread: threading.Thread | None = None

    @property
    def thread(self) -> threading.Thread | None:
        """The thread, once it has started. Under the lock: one being started cannot be joined."""
        with self._lock:
            return self._thread

    @property
    def is_current(self) -> bool:
        """Are we called from one of the functions?"""
        return self.thread is threading.current_thread()

    def add(self, channel: str, function: Callable[[Message], object]) -> Mailbox:
        """Returns the mailbox that the channel's messages are to be put into."""
        with self._lock:
            self._functions[channel] = (*self._functions.get(channel, ()), function)
            if self._thread is None:
                self._mailbox = self._new_mailbox()
                self._thread = threading.Thread(
                    name="wsclient-callbacks", target=self._run, args=(self._mailbox,), daemon=True
                )
                self._thread.start()
            return self._mailbox

    def remove(self, channel: str, function: Callable[[Message], object]) -> bool:
        """Undo one :meth:`add`. Returns whether any function is left for the channel."""
        with self._lock:
            functions = list(self._functions.get(channel, ()))
            if function in functions:
                functions.remove(function)
            self._functions[channel] = tuple(functions)
            return bool(functions)

    def _run(self, mailbox: Mailbox) -> None:
        while True:
            taken: list[Message] = []
            try:
                mailbox.take(1, Deadline(None), taken)
            except WSClientError:
                return  # the client failed; its callers are told by their own calls
            if not taken:
                return
            (message,) = taken
            for function in self._functions.get(message.channel, ()):
                if mailbox.is_closed:
                    return
                try:
                    function(message)
                except BaseException:  # a sys.exit() too: it must not end the others silently
                    self.errors += 1
                    logger.exception("%s: on(%r) raised", self._name, message.channel)
