"""The source distribution: unpacked elsewhere, its tests run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import wsclient

ROOT = Path(wsclient.__file__).parents[1]
#: They need a helper of each folder, a certificate, the README, and programs of their own.
CHOSEN = [
    "tests/sansio/test_resync.py",
    "tests/runtime/test_stream.py",
    "tests/dialects/test_generic.py",
    "tests/cli/test_main.py",
    "tests/faults/test_settings.py::test_asserts_are_checked",
]


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    pytest.importorskip("setuptools", reason="setuptools builds the distribution")
    source = tmp_path / "source"
    unwanted = shutil.ignore_patterns(".git", ".venv*", ".*_cache", ".hypothesis", "__pycache__")
    shutil.copytree(ROOT, source, ignore=unwanted)
    build = "from setuptools import build_meta; build_meta.build_sdist('dist')"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (archive,) = (source / "dist").glob("*.tar.gz")
    elsewhere = tmp_path / "unpacked"
    elsewhere.mkdir()
    subprocess.run(["tar", "-xzf", archive], cwd=elsewhere, check=True)
    (root,) = elsewhere.iterdir()
    return root


def run_pytest(root: Path, *args: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *args],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.timeout(300)
def test_the_source_distribution_holds_what_its_tests_need(unpacked: Path) -> None:
    run_pytest(unpacked, "--collect-only")
    run_pytest(unpacked, *CHOSEN)
    for name in ("LICENSE", "README.rst", ".ci/run", ".ruff.toml", "wsclient/py.typed"):
        assert (unpacked / name).is_file(), name
    assert os.access(unpacked / ".ci" / "run", os.X_OK)
