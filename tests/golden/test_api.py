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
    told = "\n".join(diff)
    assert not diff, f"{told}\nIf that is meant: python tests/golden/api.py --renew"


def test_a_changed_signature_is_told() -> None:
    assert any(
        line.startswith("    subscribe(self, *channels: str") for line in api.lines_of("wsclient")
    )
    assert any(line.startswith("wsclient.connect(url") for line in api.lines_of("wsclient"))
