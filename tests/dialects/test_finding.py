"""Dialects by name: this package's own, and those that other packages name by entry points."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import wsclient
from wsclient import dialects
from wsclient.dialect import Dialect, Limits
from wsclient.errors import ConfigurationError

ACME = """
from wsclient.dialect import Dialect

class Acme(Dialect):
    name = "made_up"

class Demanding(Acme):
    def __init__(self, region): ...

def not_a_class(): ...

def __getattr__(name):
    raise SystemExit(3) if name == "Exit" else AttributeError(name)
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Install a package whose entry points have these names and values."""

    def install(**points: str) -> None:
        (tmp_path / "acme_package.py").write_text(ACME)
        info = tmp_path / "acme_package-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-package\nVersion: 1.0\n")
        lines = [f"{name} = {value}" for name, value in points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[wsclient.dialects]", *lines, ""]))
        monkeypatch.syspath_prepend(tmp_path)

    return install


@pytest.mark.parametrize("name", dialects.NAMES)
def test_each_name_finds_a_dialect_of_that_name(name: str) -> None:
    found = dialects.find(name)
    assert found.name == name
    assert isinstance(found.limits, Limits)
    assert found is not dialects.find(name)
    assert getattr(dialects, type(found).__name__) is type(found)


@pytest.mark.parametrize("name", dialects.NAMES)
def test_each_dialect_has_tests_of_its_own(name: str) -> None:
    """`binance_futures` differs little from `binance`, and shares its file."""
    here = Path(__file__).parent
    shared = here / f"test_{name.partition('_')[0]}.py"
    assert (here / f"test_{name}.py").exists() or shared.exists()


def test_an_object_is_returned_as_it_is() -> None:
    given = Dialect()
    assert dialects.find(given) is given


def test_a_class_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"okx, or an object: Kraken\(\)$"):
        dialects.find(wsclient.Kraken)  # type: ignore[arg-type]


@pytest.mark.parametrize("unknown", ["nasdaq", "", None, 5, "__init__"])
def test_an_unknown_name_is_refused_with_the_names(unknown: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        dialects.find(unknown)
    names = ", ".join(dialects.NAMES)
    assert str(caught.value) == (
        f"dialect must be one of {names}, or a wsclient.Dialect, not {unknown!r}"
    )


@pytest.mark.parametrize("typo", ["karken", "Kraken", "krakne"])
def test_a_name_like_a_known_one_is_refused_with_that_one(typo: str) -> None:
    with pytest.raises(ConfigurationError, match=r"; did you mean 'kraken'\?$"):
        dialects.find(typo)


def test_a_dialect_of_another_package(install: Callable[..., None]) -> None:
    install(made_up="acme_package:Acme")
    assert type(dialects.find("made_up")).__module__ == "acme_package"


def test_another_package_takes_no_name_of_ours(install: Callable[..., None]) -> None:
    install(kraken="acme_package:Acme")
    assert type(dialects.find("kraken")) is wsclient.Kraken


def test_the_names_of_other_packages_are_in_the_error(install: Callable[..., None]) -> None:
    install(made_up="acme_package:Acme")
    with pytest.raises(ConfigurationError, match=r"one of .*, made_up, .*, or a wsclient"):
        dialects.find("acne")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("acme_package:not_a_class", "must be a class derived from wsclient.Dialect"),
        ("acme_package:Missing", "cannot be loaded from acme_package:Missing: AttributeError"),
        ("acme_package:Demanding", "cannot be loaded from acme_package:Demanding: TypeError"),
        ("acme_package:Exit", "cannot be loaded from acme_package:Exit: SystemExit"),
        ("no_such_package:Acme", "cannot be loaded from no_such_package:Acme: ModuleNotFound"),
    ],
)
def test_a_dialect_that_cannot_be_loaded_is_named(
    value: str, reason: str, install: Callable[..., None]
) -> None:
    install(made_up=value)
    with pytest.raises(ConfigurationError, match=reason):
        dialects.find("made_up")


def test_a_missing_class_is_an_attribute_error() -> None:
    assert not hasattr(dialects, "Nasdaq")
    assert not hasattr(dialects, "kraken_")


@pytest.mark.parametrize("name", ["okx", "OKX"])
def test_a_module_and_its_class_are_attributes_before_their_import(name: str) -> None:
    program = f"import wsclient; found = wsclient.dialects.{name}"
    subprocess.run([sys.executable, "-c", program], check=True)
