"""What the mutation run changes: one thing at a time, where it may matter."""

from __future__ import annotations

import pytest

from mutation.mutants import mutants


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
