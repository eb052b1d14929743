"""The public names and their signatures are those of the snapshot."""

from __future__ import annotations

import difflib

import pytest

from golden import api


@pytest.mark.parametrize("module", api.MODULES)
def test_the_public_api_is_as_it_was(module: str) -> None:
    if module == "wsclient.metrics":
        pytest.importorskip("prometheus_client")
    then, now = api.snapshot(module), api.lines_of(module)
    diff = list(difflib.unified_diff(then, now, "api.txt", "now", lineterm="", n=0))
    shown = "\n".join(diff)
    assert not diff, f"{shown}\nIf this is intended: python tests/golden/api.py --renew"


@pytest.mark.parametrize(
    "line",
    [
        "    unsubscribe(self, *channels: str, timeout: float | None = None) -> None",
        "    recv(self, timeout: float | None = None) -> Message",
        "    is_synced -> bool: property",
        "wsclient.Gap(tuple): (reason: str, missed: int | None = None, since: int | None = None)",
    ],
)
def test_calls_properties_and_fields_are_listed(line: str) -> None:
    assert line in api.lines_of("wsclient")
