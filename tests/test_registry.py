"""Classes found by name in the modules of a folder, which are imported when they are needed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wsclient.registry import Registry, names_in


class Base:
    """What the classes derive from."""

    name = "base"


FILES = {
    "kraken.py": "from test_registry import Base\nclass Kraken(Base):\n    name = 'kraken'\n",
    "kraken_futures.py": "from herd.kraken import Kraken\n"
    "class Helper(Kraken): pass\n"
    "class KrakenFutures(Kraken):\n    name = 'kraken_futures'\n",
    "broken.py": "raise RuntimeError('broken')\n",
    "empty.py": "from herd.kraken import Kraken\n",
    "_helper.py": "raise RuntimeError('not to be imported')\n",
    "notes.txt": "",
}


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Registry[Base]]]:
    folder = tmp_path / "herd"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "test_registry", sys.modules[__name__])
    yield lambda: Registry("herd", [str(folder)], Base, lambda kind: vars(kind).get("name"))
    for name in [name for name in sys.modules if name.partition(".")[0] == "herd"]:
        del sys.modules[name]


def test_the_names_are_those_of_the_modules(make: Callable[[], Registry[Base]]) -> None:
    assert make().names == ("broken", "empty", "kraken", "kraken_futures")


def test_names_are_found_without_an_import(make: Callable[[], Registry[Base]]) -> None:
    make()
    assert "herd" not in sys.modules


def test_a_missing_folder_has_no_names(tmp_path: Path) -> None:
    assert names_in([str(tmp_path / "nowhere")]) == ()


def test_only_the_module_of_the_name_is_imported(make: Callable[[], Registry[Base]]) -> None:
    found = make().find("kraken")
    assert found is not None
    assert found.__name__ == "Kraken"
    assert "herd.kraken_futures" not in sys.modules


def test_a_module_may_import_and_define_further_classes(make: Callable[[], Registry[Base]]) -> None:
    found = make().find("kraken_futures")
    assert found is not None
    assert found.__name__ == "KrakenFutures"


@pytest.mark.parametrize("name", ["okx", "", "_helper", "kraken.futures", "../herd"])
def test_a_name_that_no_module_has_is_not_found(
    name: str, make: Callable[[], Registry[Base]]
) -> None:
    assert make().find(name) is None


def test_a_module_without_a_class_of_its_name_is_an_error(
    make: Callable[[], Registry[Base]],
) -> None:
    with pytest.raises(ImportError, match=r"herd\.empty defines no Base whose name is 'empty'"):
        make().find("empty")


def test_an_error_in_a_module_reaches_the_caller(make: Callable[[], Registry[Base]]) -> None:
    with pytest.raises(RuntimeError, match="broken"):
        make().find("broken")


@pytest.mark.parametrize(
    ("class_name", "name"),
    [
        ("KrakenFutures", "kraken_futures"),
        ("Kraken", "kraken"),
        ("KRAKEN", None),
        ("Okx", None),
        ("__file__", None),
    ],
)
def test_a_class_is_found_by_its_own_name(
    class_name: str, name: str | None, make: Callable[[], Registry[Base]]
) -> None:
    found = make().class_named(class_name)
    assert (found and found.name) == name
