"""What protects the records that MCAP itself does not, and the parts shared by files."""

from __future__ import annotations

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from wsclient.recording.container import definition, is_sealed, schemas, sealed

FIELDS = st.dictionaries(st.text(), st.text(), max_size=5).filter(
    lambda fields: "crc" not in fields
)


@given(FIELDS, st.integers(0, 65535), st.text())
def test_a_seal_holds_for_what_was_sealed(fields: dict[str, str], number: int, text: str) -> None:
    both = sealed(fields, number, text)
    assert is_sealed(both, number, text)
    assert {name: value for name, value in both.items() if name != "crc"} == fields
    assert not is_sealed(both, number + 1, text)
    assert not is_sealed(both, number, text + "x")
    assert not is_sealed({**both, "more": ""}, number, text) or "more" in fields
    assert not is_sealed(fields, number, text)


def test_a_topic_names_its_kind_and_schema() -> None:
    found = definition(7, "client", "client")
    assert (found.id, found.topic, found.metadata["kind"]) == (7, "client", "client")
    assert found.schema_id == schemas()["wsclient.ClientRecord"].id
    assert definition(7, "frames", "x").schema_id == definition(8, "channel", "x").schema_id


def test_without_the_packages_the_error_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['mcap'] = None\n"
        "import wsclient\n"
        "try:\n"
        "    import wsclient.recording.container\n"
        "except wsclient.ConfigurationError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert "pip install 'wsclient-market[record]'" in done.stdout, done.stderr
