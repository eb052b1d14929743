"""What the process must have for clients to work in it."""

from __future__ import annotations

import sys

from wsclient.errors import ConfigurationError

__all__ = ["check_threads"]


def check_threads() -> None:
    """Raise ConfigurationError where threads are not what the client needs.

    eventlet's locks may not be released by another thread than their owner's, and its waits hold up
    all that run. gevent's do what those of the standard library do.
    """
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is not None and patcher.is_monkey_patched("thread"):
        raise ConfigurationError(
            "wsclient cannot run on the threads of eventlet.monkey_patch(): use "
            "eventlet.monkey_patch(thread=False), gevent, or plain threads"
        )
