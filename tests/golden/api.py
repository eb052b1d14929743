"""The public API as text: each name with its signature, without saying where it is defined.

python tests/golden/api.py            print it
python tests/golden/api.py --renew    write api.txt, which a test compares with
"""

from __future__ import annotations

import enum
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

HERE = Path(__file__).resolve().parent
SNAPSHOT = HERE / "api.txt"
MODULES = (
    "wsclient",
    "wsclient.dialect",
    "wsclient.dialects",
    "wsclient.errors",
    "wsclient.events",
    "wsclient.metrics",
    "wsclient.testing",
)
#: Classes that the package makes and users get.
_GIVEN = frozenset({"EventStream", "Lag", "ServedConnection", "Peer", "Reader"})
#: Methods that language constructs call.
_PROTOCOLS = frozenset({"__call__", "__enter__", "__exit__", "__iter__", "__next__"})
#: A default shown with its address, or an annotation with the module of its class.
_ADDRESS = re.compile(r"<(?:function|class) '?(?:[\w.<>]*\.)?([\w<>]+)'?(?: at 0x[0-9a-f]+)?>")
_PLACE = re.compile(r"\b(?:wsclient|collections|typing|decimal|ssl)(?:\.\w+)*\.(\w+)")


def once_public() -> list[str]:
    """Return the names that have ever been in ``wsclient.__all__``, which can be imported still."""
    return (HERE / "names.txt").read_text().split()


def lines_of(module: str) -> list[str]:
    """Return the lines that describe a module's public names."""
    found = importlib.import_module(module)
    names = getattr(found, "__all__", None) or [n for n in vars(found) if not n.startswith("_")]
    if module == "wsclient":
        names = {*names, *once_public()}
    return [line for name in sorted(names) for line in _lines(module, name, getattr(found, name))]


def _lines(module: str, name: str, value: Any) -> Iterator[str]:
    path = f"{module}.{name}"
    package = importlib.import_module("wsclient")
    if module == "wsclient" and name not in package.__all__:
        yield f"{path}: not in __all__"
    if module != "wsclient" and name in once_public() and value is getattr(package, name):
        yield f"{path}: as wsclient.{name}"
    elif isinstance(value, ModuleType):
        yield f"{path}: module"
    elif isinstance(value, type):
        yield from _of_class(path, value)
    elif isinstance(value, FunctionType):
        yield f"{path}{_signature(value)}"
    else:
        yield f"{path}: {type(value).__name__}"


def _of_class(path: str, kind: type) -> Iterator[str]:
    bases = ", ".join(base.__name__ for base in kind.__bases__ if not base.__name__.startswith("_"))
    if issubclass(kind, enum.Enum):
        members = ", ".join(f"{member.name}={member.value!r}" for member in kind)
        yield f"{path}({bases}): {members}"
    else:
        made = "" if kind.__name__ in _GIVEN or not _is_made(kind) else f": {_signature(kind)}"
        yield f"{path}({bases}){made}"
    # Members of a public base are listed there.
    own = [kind, *(base for base in _ours(kind) if base.__name__.startswith("_"))]
    for name in sorted({name for base in own for name in vars(base)}):
        if (name.startswith("_") and name not in _PROTOCOLS) or issubclass(kind, enum.Enum):
            continue
        yield f"    {_member(name, inspect.getattr_static(kind, name))}"


def _is_made(kind: type) -> bool:
    """Return True if the class defines its own constructor."""
    makers = ("__init__", "__new__")
    is_struct = hasattr(kind, "__struct_fields__")
    return is_struct or any(maker in vars(base) for base in _ours(kind) for maker in makers)


def _ours(kind: type) -> list[type]:
    return [base for base in kind.__mro__ if base.__module__.split(".")[0] == "wsclient"]


def _member(name: str, value: Any) -> str:
    if isinstance(value, (staticmethod, classmethod)):
        return f"{name}{_signature(value.__func__)}: {type(value).__name__}"
    if isinstance(value, FunctionType):
        return f"{name}{_signature(value)}"
    if isinstance(value, property):
        assert value.fget is not None
        result = inspect.signature(value.fget).return_annotation
        return f"{name} -> {_plain(result)}: property"
    return name


def _signature(value: Any) -> str:
    try:
        return _plain(inspect.signature(value))
    except ValueError:  # a builtin without a signature
        return "(...)"


def _plain(value: Any) -> str:
    text = value if isinstance(value, str) else str(value)
    text = _PLACE.sub(r"\1", _ADDRESS.sub(r"\1", text))
    text = re.sub(r"ForwardRef\('([^']*)'\)", r"\1", text)
    return text.replace("'", "").replace('"', "")


def renew() -> None:
    text = "\n".join(line for module in MODULES for line in [f"# {module}", *lines_of(module)])
    SNAPSHOT.write_text(text + "\n")


def snapshot(module: str) -> list[str]:
    """Return the snapshot's lines for a module."""
    sections = SNAPSHOT.read_text().split("# ")
    (found,) = (s.splitlines()[1:] for s in sections if s.splitlines()[:1] == [module])
    return found


if __name__ == "__main__":
    if "--renew" in sys.argv:
        renew()
    else:
        print("\n".join(line for module in MODULES for line in lines_of(module)))
