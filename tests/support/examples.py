"""The number of examples that the property-based tests try.

The suite tries the same few each time; with ``HYPOTHESIS_PROFILE=explore`` in the environment they
are new ones, and five times as many. The same means: while the same modules are imported from their
sources, as hypothesis likes to draw the constants that it finds there. So the compiled form, or a
test run with others, may try different ones.
"""

from __future__ import annotations

import os

from hypothesis import settings

__all__ = ["PROFILE", "examples"]

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "suite")
_PART = 1 if PROFILE == "explore" else 5

settings.register_profile("suite", derandomize=True, deadline=None, max_examples=100 // _PART * 2)
settings.register_profile("explore", derandomize=False, deadline=None)


def examples(full: int) -> settings:
    """Return settings that try ``full`` examples when exploring, and fewer in the suite."""
    return settings(max_examples=max(1, full // _PART))
