"""Classes that are found by name: one module of a folder for each name.

A module registers its class by being in the folder: the module ``acme_spot`` holds the class whose
name is ``acme_spot``. The folder is listed once, and no module of it is imported until its name is
looked up.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Generic, TypeVar

__all__ = ["Registry", "names_in"]

T = TypeVar("T")


def names_in(folder: Iterable[str]) -> tuple[str, ...]:
    """Return the sorted names of the modules in a folder, without importing any.

    ``folder`` is the ``__path__`` of a package. Modules whose names begin with an underscore are
    left out.
    """
    names = (module.name for module in pkgutil.iter_modules(folder))
    return tuple(sorted(name for name in names if not name.startswith("_")))


class Registry(Generic[T]):
    """The classes in the modules of ``package``, found by the names of the modules.

    ``base`` is the class from which all of them derive, ``name_of`` returns the name of one.
    """

    def __init__(
        self,
        package: str,
        folder: Iterable[str],
        base: type[T],
        name_of: Callable[[type[T]], str | None],
    ) -> None:
        self.names = names_in(folder)
        self._package = package
        self._base = base
        self._name_of = name_of

    def find(self, name: str) -> type[T] | None:
        """Import the module ``name`` and return its class of this name.

        Returns None if there is no such module. Raises ImportError if the module holds no such
        class.
        """
        if name not in self.names:
            return None
        module = import_module(f"{self._package}.{name}")
        for value in vars(module).values():
            if (
                isinstance(value, type)
                and issubclass(value, self._base)
                and value.__module__ == module.__name__
                and self._name_of(value) == name
            ):
                return value
        raise ImportError(
            f"{module.__name__} defines no {self._base.__name__} whose name is {name!r}",
            name=module.__name__,
        )

    def class_names(self) -> list[str]:
        """Import all modules and return the names of their classes."""
        kinds = map(self.find, self.names)
        return [kind.__name__ for kind in kinds if kind is not None]

    def class_named(self, class_name: str) -> type[T] | None:
        """Return the class called ``class_name``, such as ``AcmeSpot`` in ``acme_spot``; or None.

        The two names may differ in case and in underscores only.
        """
        for name in self.names:
            if name.replace("_", "") == class_name.lower():
                kind = self.find(name)
                return kind if kind is not None and kind.__name__ == class_name else None
        return None
