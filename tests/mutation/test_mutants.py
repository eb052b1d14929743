"""The mutation run changes one thing at a time, where it may matter."""

from __future__ import annotations

from pathlib import Path

import pytest

import wsclient
from mutation.mutants import mutants

PACKAGE = Path(wsclient.__file__).parent
PURE = tuple(PACKAGE / name for name in ("sansio", "stream", "dialect", "books"))


def changes(source: str) -> list[str]:
    return [f"{mutant.scope}: {mutant.old} -> {mutant.new}" for mutant in mutants(source)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = a < b <= 2", [": 2 -> 1", ": 2 -> 3", ": a < b <= 2 -> a < b < 2",
                            ": a < b <= 2 -> a <= b <= 2"]),
        ("x = a and b + c", [": a and b + c -> a or b + c", ": b + c -> b - c"]),
        ("x = not True", [": True -> False", ": not True -> True"]),
        ("if x:\n    y()", [": x -> not x"]),
        ("def f():\n    'Says.'\n    g()\n    return", ["f: g() -> pass", "f: return -> pass"]),
        ("class A(B, gc=False):\n    x: 'a < b'\n    __slots__ = (1,)", []),
        ("def f(x: int | None) -> 1 + 1:\n    raise x", ["f: raise x -> pass"]),
    ],
)  # fmt: skip
def test_the_changes_of_a_text(source: str, expected: list[str]) -> None:
    assert changes(source) == expected


def test_all_else_stays_as_it_is() -> None:
    texts = [mutant.text for mutant in mutants("# é\nx = 'é' + f(1)  # why\n")]
    assert texts == ["# é\nx = ('é' - f(1))  # why\n", "# é\nx = 'é' + f((0))  # why\n",
                     "# é\nx = 'é' + f((2))  # why\n"]  # fmt: skip


def test_a_change_is_known_again_when_it_has_moved() -> None:
    (moved,) = mutants("# new\ndef f():\n    return  # why\n")
    (mutant,) = mutants("def f():\n    return\n")
    assert moved.key == mutant.key == "f: return [return -> pass]"


def test_each_known_survivor_is_still_a_change_of_its_module() -> None:
    lines = Path(__file__).with_name("survivors.txt").read_text("utf-8").splitlines()
    known = [line.split("  # ")[0] for line in lines if line and not line.startswith("#")]
    modules = {key.split()[0] for key in known}
    sources = {n: pure / n for n in modules for pure in PURE if (pure / n).exists()}
    present = {
        f"{name} {mutant.key}"
        for name, path in sources.items()
        for mutant in mutants(path.read_text("utf-8"))
    }
    stale = [key for key in known if key not in present]
    assert not stale, "\n".join(["no longer a change:", *stale])
