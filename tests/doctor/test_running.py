"""What runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import wsclient
from wsclient.doctor.running import running
from wsclient.stream import channel


def form(**environment: str) -> str:
    """Return what a new process says of itself."""
    root = str(Path(wsclient.__file__).parents[1])
    print_it = "from wsclient.doctor.running import running; print(running())"
    variables = {**os.environ, "PYTHONPATH": root, **environment}
    done = subprocess.run(
        [sys.executable, "-c", print_it], env=variables, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_form_is_that_of_the_file_that_is_loaded() -> None:
    is_source = str(channel.__file__).endswith(".py")
    assert running().endswith("(pure Python)" if is_source else "(compiled)")


def test_a_variable_of_the_environment_chooses_the_source() -> None:
    assert form(WSCLIENT_PURE="1") == f"wsclient {wsclient.__version__} (pure Python)"
    assert form(WSCLIENT_PURE="") == running()
