"""The types of the compiled forms fit their sources: see setup.py."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import wsclient
from wsclient.stream.channel import Batch, Channel

FOLDER = Path(wsclient.__file__).parent / "stream"


@pytest.mark.parametrize("kind", [Batch, Channel])
def test_a_compiled_class_has_the_attributes_of_its_source(kind: type) -> None:
    text = (FOLDER / "channel.pxd").read_text()
    body = text.partition(f"cdef class {kind.__name__}:\n")[2].partition("\n\n")[0]
    lines = re.findall(r"^    cdef public object (.*)$", body, re.MULTILINE)
    assert sorted(", ".join(lines).split(", ")) == sorted(kind.__slots__)  # type: ignore[attr-defined]
