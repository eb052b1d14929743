"""Calls ``classify``, which may be user code, on its own thread, so that it blocks no other."""

from __future__ import annotations

import threading
from collections.abc import Callable

from wsclient.errors import ThreadStartError
from wsclient.events import ClassifyFailed, ClassifyUnanswered
from wsclient.threads.workers import start
from wsclient.verdicts import Verdict, classify

__all__ = ["Judge"]

#: How long (s) a user's ``classify`` may take before the built-in one decides.
PATIENCE = 1.0

Then = Callable[[Verdict], None]


class Judge:
    """Classifies errors. Used by the watchdog thread only, except :meth:`now`.

    A user's ``classify`` runs on its own thread, and its verdict is posted to the watchdog. While a
    call has not returned, the built-in function decides.
    """

    def __init__(
        self,
        function: Callable[[BaseException], Verdict],
        emit: Callable[..., None],
        post: Callable[[Callable[[], None]], None],
    ) -> None:
        self._function = function
        self._emit = emit
        self._post = post
        #: The pending call: its deadline, the error, and the function that takes the verdict.
        self._asked: tuple[float, BaseException, Then] | None = None
        #: True while a call has not returned, whether the watchdog still waits for it or not.
        self._is_out = False
        self.thread: threading.Thread | None = None

    def judge(self, error: BaseException, then: Then, now: float) -> None:
        """Call ``then`` with the verdict, now or on the watchdog thread within PATIENCE."""
        if self._function is classify:
            then(classify(error))
        elif self._is_out:
            self._decide(error, then, "has not returned from an earlier call yet")
        else:
            self._ask(error, then, now)

    def _ask(self, error: BaseException, then: Then, now: float) -> None:
        asked = (now + PATIENCE, error, then)

        def ask() -> None:
            verdict = self.now(error)
            self._post(lambda: self._answered(asked, verdict))

        thread = threading.Thread(name="wsclient-classify", target=ask, daemon=True)
        try:
            start(thread)
        except ThreadStartError:
            self._decide(error, then, "cannot be called, as no thread can be started")
            return
        self.thread, self._asked, self._is_out = thread, asked, True

    def _answered(self, asked: tuple[float, BaseException, Then], verdict: Verdict) -> None:
        self._is_out = False
        if self._asked is asked:
            self._asked = None
            asked[2](verdict)

    def _decide(self, error: BaseException, then: Then, why: str) -> None:
        self._emit(ClassifyUnanswered, why)
        then(classify(error))

    @property
    def deadline(self) -> float:
        """When :meth:`expire` is due (monotonic s; ``inf`` for never)."""
        return float("inf") if self._asked is None else self._asked[0]

    def expire(self, now: float) -> None:
        """Let the built-in function decide if the pending call is past its deadline."""
        if self._asked is not None and now >= self._asked[0]:
            _, error, then = self._asked
            self._asked = None
            self._decide(error, then, f"has not returned within {PATIENCE:g} s")

    def now(self, error: BaseException) -> Verdict:
        """Return the function's verdict. May block, so never called on the watchdog thread."""
        try:
            verdict = self._function(error)
            if isinstance(verdict, Verdict):
                return verdict
            why = f"returned {type(verdict).__name__}, not a Verdict"
            self._emit(ClassifyFailed, why, None)
        except BaseException as raised:  # noqa: BLE001 - not even SystemExit may stop the client
            self._emit(ClassifyFailed, "raised", raised)
        return classify(error)
