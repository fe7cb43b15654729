"""Dataclasses whose constructors are compiled when the first instance is created."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache, partial
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # type checkers treat them like any other dataclass
    from dataclasses import dataclass as dataclass  # noqa: PLC0414  (to export it)
else:

    def dataclass(
        cls: type | None = None,
        /,
        *,
        frozen: bool = False,
        eq: bool = True,
        repr: bool = True,  # noqa: A002  (as Python names them)
        kw_only: bool = False,
    ) -> Any:  # noqa: ANN401
        """Create a dataclass in a twentieth of the time that `dataclasses.dataclass` takes.

        `dataclasses.dataclass` generates and compiles up to six methods of each class, again in
        every process. A command uses half of the hundreds of classes of bmz, and only the
        constructor of most of these. Here the constructor is generated when it is first called; the
        other methods are the same for all classes and inspect the fields. `dataclasses.fields`,
        `replace`, `asdict` and `is_dataclass` accept the result.
        """
        if cls is None:
            return partial(dataclass, frozen=frozen, eq=eq, repr=repr, kw_only=kw_only)
        own = {name for name, value in vars(cls).items() if (name, value) != ("__hash__", None)}
        dataclasses.dataclass(cls, init=False, repr=False, eq=False, kw_only=kw_only)
        methods = {"__init__": _first_init(cls)}
        if repr:
            methods["__repr__"] = _repr
        if eq:
            methods |= {"__eq__": _eq, "__hash__": _hash if frozen else None}
        if frozen:
            methods |= {"__setattr__": _refuse_setting(cls), "__delattr__": _refuse_deleting(cls)}
        for name, method in methods.items():
            if name not in own:
                setattr(cls, name, method)
        return cls


def _first_init(cls: Any) -> Callable[..., None]:  # noqa: ANN401
    def __init__(self: object, *arguments: object, **named: object) -> None:  # noqa: N807
        init = _compiled_init(cls)
        cls.__init__ = init  # if two threads race, both write the same
        init(self, *arguments, **named)

    return __init__


def _compiled_init(cls: Any) -> Callable[..., None]:  # noqa: ANN401
    """Generate the constructor: one parameter per field, in order, keyword-only ones last."""
    known: dict[str, Any] = {"_set": object.__setattr__, "_none": dataclasses.MISSING}
    places, named, lines = list[str](), list[str](), list[str]()
    for field in dataclasses.fields(cls):
        name, value = field.name, field.name
        if field.default is not dataclasses.MISSING:
            known[f"_of_{name}"] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            known[f"_make_{name}"] = field.default_factory
            value = f"_make_{name}()" + (f" if {name} is _none else {name}" if field.init else "")
        if field.init:
            default = f"_of_{name}" if f"_of_{name}" in known else "_none"
            optional = default != "_none" or f"_make_{name}" in known
            (named if field.kw_only else places).append(f"{name}={default}" if optional else name)
        if field.init or value != name:
            lines.append(f" _set(self, {name!r}, {value})")
    if hasattr(cls, "__post_init__"):
        lines.append(" self.__post_init__()")
    stars = ["*", *named] if named else []
    source = f"def __init__({', '.join(['self', *places, *stars])}):\n" + "\n".join(
        lines or [" pass"]
    )
    exec(source, known)  # noqa: S102  (of our own classes)
    init: Callable[..., None] = known["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    init.__module__ = cls.__module__
    return init


@cache
def _compared(cls: Any) -> Callable[[object], object]:  # noqa: ANN401  (a dataclass)
    """Return a function that returns the fields by which instances of a class are compared."""
    names = [field.name for field in dataclasses.fields(cls) if field.compare]
    if len(names) > 1:
        return attrgetter(*names)
    # a single field is in a tuple, too, since tuples treat the same object as equal
    return lambda value: tuple(getattr(value, name) for name in names)


def _key(value: Any) -> object:  # noqa: ANN401  (of any dataclass)
    return _compared(value.__class__)(value)


def _eq(self: object, other: object) -> object:
    return _key(self) == _key(other) if other.__class__ is self.__class__ else NotImplemented


def _hash(self: object) -> int:
    return hash(_key(self))


@recursive_repr()
def _repr(self: Any) -> str:  # noqa: ANN401  (of any dataclass)
    shown = (f"{f.name}={getattr(self, f.name)!r}" for f in dataclasses.fields(self) if f.repr)
    return f"{self.__class__.__qualname__}({', '.join(shown)})"


def _refuse_setting(cls: Any) -> Callable[[object, str, object], None]:  # noqa: ANN401
    def __setattr__(self: object, name: str, value: object) -> None:  # noqa: N807
        if type(self) is cls or name in cls.__dataclass_fields__:
            raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
        super(cls, self).__setattr__(name, value)

    return __setattr__


def _refuse_deleting(cls: Any) -> Callable[[object, str], None]:  # noqa: ANN401
    def __delattr__(self: object, name: str) -> None:  # noqa: N807
        if type(self) is cls or name in cls.__dataclass_fields__:
            raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
        super(cls, self).__delattr__(name)

    return __delattr__
