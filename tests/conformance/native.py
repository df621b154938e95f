"""Imports an extension whose libraries are not here: with empty ones, made with gcc, that have the names it looks for.

TensorRT's bindings come as a wheel, the builder and the runtime behind them do not. Imported over empty libraries they
show every class, method and docstring; nothing of them can be called.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

LIBRARIES = re.compile(r"\[(libnv\w+\.so\.\d+|libcuda\.so\.1)\]")
# What belongs to the loader or to a library that is there has a version behind its name or is weak.
SYMBOLS = re.compile(r" U (\w+_INTERNAL|get\w+|init\w+|cu[A-Z]\w+)$", re.MULTILINE)
_FRAMEWORKS = ("pybind11_builtins", "Boost.Python")
_PLAIN = {"__init__", "__len__", "__getitem__", "__setitem__", "__iter__", "__call__", "__int__", "__index__"}


def read(module: str, folder: Path, extension: Path | None = None, site: Path | None = None) -> dict[str, Any]:
    """Return everything in a module as names and docstrings, read in a process of its own.

    `folder` takes empty libraries for the extension, if it needs any; `site` is where the module lies if it is not
    installed.
    """
    if extension is not None:
        empty_libraries(extension, folder)
    paths = {"LD_LIBRARY_PATH": str(folder)} | ({"PYTHONPATH": str(site)} if site else {})
    command = [sys.executable, __file__, module]
    done = subprocess.run(command, env=os.environ | paths, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise RuntimeError(f"{module} cannot be read: {done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def empty_libraries(extension: Path, folder: Path) -> None:
    """Make every library that the extension needs; each has every function, and all of them return 0."""
    needed = _out("readelf", "-d", str(extension))
    undefined = _out("nm", "-D", "--undefined-only", str(extension))
    functions = "".join(f"void* {name}(void){{return 0;}}\n" for name in SYMBOLS.findall(undefined))
    source = folder / "empty.c"
    source.write_text(functions)
    for name in LIBRARIES.findall(needed):
        _out("gcc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(folder / name), str(source))


def _out(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


# What follows runs in the process of its own, where nothing but the standard library is sure to be there.


def describe(module: ModuleType) -> dict[str, Any]:
    """Return a module's public names and what their docstrings say."""
    found: dict[str, Any] = {"version": _version(module), "classes": {}, "functions": {}, "values": {}, "aliases": {}}
    for name, value in vars(module).items():
        if name.startswith("_") or isinstance(value, ModuleType):
            continue
        if isinstance(value, type):
            _class(found, name, value, module)
        elif callable(value):
            found["functions"][name] = _doc(value)
        else:
            found["values"][name] = type(value).__qualname__
    return found


def _version(module: ModuleType) -> str:
    package = sys.modules[module.__name__.rpartition(".")[0] or module.__name__]
    return str(getattr(package, "__version__", "") or getattr(package, "VERSION_TEXT", ""))


def _class(found: dict[str, Any], path: str, kind: type, module: ModuleType) -> None:
    if kind.__qualname__ != path:
        found["aliases"][path] = kind.__qualname__
        return
    members = {name: int(each) for name, each in _members(kind).items()}
    bases = [base for base in kind.__bases__ if base.__module__ not in _FRAMEWORKS and base is not object]
    hidden = [each for each in bases if not hasattr(module, each.__name__) and each.__module__ != "builtins"]
    made: dict[str, Any] = {"bases": [each.__qualname__ for each in bases if each not in hidden], "members": members}
    made |= {"methods": {}, "properties": {}, "values": {}, "static": []}
    found["classes"][path] = made
    # A base that the module does not show has its contents told with the class.
    contents = {name: value for each in (*hidden, kind) for name, value in vars(each).items()}
    for name, value in contents.items():
        if name in members or (name.startswith("_") and name not in _PLAIN):
            continue
        if isinstance(value, type):
            _class(found, f"{path}.{name}", value, module)
        else:
            _member(made, name, value, getattr(kind, name))


def _members(kind: type) -> dict[str, Any]:
    """Return an enumeration's members, however the binding's framework keeps them."""
    found = getattr(kind, "__members__", None) or (getattr(kind, "names", None) if issubclass(kind, int) else None)
    return dict(found or {})


def _member(made: dict[str, Any], name: str, value: Any, bound: Any) -> None:
    if isinstance(value, property):
        made["properties"][name] = [value.fget.__doc__ or "", value.fset is not None]
    elif inspect.isgetsetdescriptor(value):
        made["properties"][name] = ["", True]
    elif isinstance(value, staticmethod | classmethod):
        made["static"].append(name)
        made["methods"][name] = _doc(bound)
    elif not callable(bound):
        made["values"][name] = type(value).__qualname__
    elif not type(value).__name__.startswith("wrapper_"):
        made["methods"][name] = _doc(value)


def _doc(value: Any) -> str:
    """Return the docstring with the signature; of a function in Python the signature itself."""
    if inspect.isfunction(value) or inspect.ismethod(value):
        return f"f{inspect.signature(value)}"
    if type(value).__name__ == "cython_function_or_method":
        return f"f{inspect.signature(value)}\n{value.__doc__}"
    return value.__doc__ or ""


if __name__ == "__main__":
    sys.path.pop(0)  # this folder
    json.dump(describe(importlib.import_module(sys.argv[1])), sys.stdout)
