"""Finds where one part of the daemon runs another: the places that a defect may hit.

Nothing is listed by hand. A seam is a method of a class of the package that

* runs as a task, or in a compartment;
* is handed over instead of being called: a callback, a timer, a reader, a hook;
* the event loop calls by its name: a protocol's;
* belongs to an interface: a class of the package has all methods of a ``Protocol``.
"""

import ast
import asyncio
import importlib
import inspect
import pkgutil
from dataclasses import dataclass
from typing import Protocol

import ssmtunneld

_ROOMS = ("daemon", "serve", "observe", "sessions", "aws", "listener", "transport")
"""The floors of a daemon that runs (docs/architecture.md)."""
_RUNS = {"create_task", "run_compartment", "attempt"}
_LOOPS = (asyncio.Protocol, asyncio.BufferedProtocol)
_ROOT = {"Daemon._serve", "Daemon._keep", "Tunnels.run"}
"""Methods that hold all compartments, and the boundary of the compartments itself."""


@dataclass(frozen=True)
class Seam:
    """One method of one class."""

    owner: type
    name: str

    @property
    def method(self):
        """Its name with its class's."""
        return f"{self.owner.__name__}.{self.name}"

    def __str__(self):
        module = self.owner.__module__.removeprefix("ssmtunneld.")
        return f"{module}.{self.method}"


def find_seams():
    """Return all seams, in the order of their names."""
    modules = list(_modules())
    classes = [c for m in modules for c in vars(m).values() if _is_of(c, m)]
    found = set()
    for module in modules:
        found |= set(_handed_over(module, classes))
    found |= set(_called_by_loop(classes))
    found |= set(_interfaces(modules, classes))
    return sorted((s for s in found if s.method not in _ROOT), key=str)


def _modules():
    for _, name, is_package in pkgutil.walk_packages(
        ssmtunneld.__path__, "ssmtunneld."
    ):
        room = name.split(".")[1]
        if not is_package and room in _ROOMS:
            yield importlib.import_module(name)


def _is_of(value, module):
    return inspect.isclass(value) and value.__module__ == module.__name__


def _method(owner, name):
    value = vars(owner).get(name)
    return inspect.isfunction(value) and not getattr(owner, "_is_protocol", False)


def _handed_over(module, classes):
    tree = ast.parse(inspect.getsource(module))
    for definition in ast.walk(tree):
        if isinstance(definition, ast.ClassDef):
            own = [
                c
                for c in classes
                if c.__name__ == definition.name and c.__module__ == module.__name__
            ]
            for name, is_own in _references(definition):
                yield from (
                    Seam(c, name)
                    for c in (own if is_own else classes)
                    if _method(c, name)
                )


def _references(definition):
    """Yield names of methods that are used without being called, or run as tasks."""
    called = {n.func for n in ast.walk(definition) if isinstance(n, ast.Call)}
    for node in ast.walk(definition):
        if isinstance(node, ast.Attribute) and node not in called:
            yield node.attr, _is_self(node.value)
        if isinstance(node, ast.Call) and _called_name(node) in _RUNS:
            for inner in ast.walk(node):
                if isinstance(inner, ast.Call) and isinstance(
                    inner.func, ast.Attribute
                ):
                    yield inner.func.attr, _is_self(inner.func.value)


def _is_self(node):
    return isinstance(node, ast.Name) and node.id == "self"


def _called_name(call):
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def _called_by_loop(classes):
    names = {n for base in _LOOPS for n in dir(base) if not n.startswith("_")}
    for owner in classes:
        if any(hasattr(owner, n) for n in ("data_received", "buffer_updated")):
            yield from (Seam(owner, n) for n in names if _method(owner, n))


def _interfaces(modules, classes):
    protocols = {
        value
        for module in modules
        for value in vars(module).values()
        if inspect.isclass(value)
        and value is not Protocol
        and getattr(value, "_is_protocol", False)
        and value.__module__.startswith("ssmtunneld")
    }
    for protocol in protocols:
        names = {n for n, v in vars(protocol).items() if inspect.isfunction(v)}
        names = {n for n in names if not n.startswith("_")}
        for owner in classes:
            if names and all(callable(getattr(owner, n, None)) for n in names):
                yield from (Seam(owner, n) for n in names if _method(owner, n))
