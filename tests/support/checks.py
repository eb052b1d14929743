"""Access to the checks of a diagnosis."""

from __future__ import annotations

from wsclient import Check, Diagnosis

__all__ = ["check", "statuses"]


def check(diagnosis: Diagnosis, name: str) -> Check:
    """Return the only check with this name."""
    (found,) = [check for check in diagnosis.checks if check.name == name]
    return found


def statuses(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    return [(check.name, check.status) for check in diagnosis.checks]
