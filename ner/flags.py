"""A dataclass as a command line: ``key`` describes a field once, ``parse`` turns flags into the dataclass, ``--help`` shows what is there.

Reading the flags is argparse's work; the messages about bad ones are written here, so that each says what to give instead.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import functools
import os
import sys
import types
import typing
from typing import Any, Literal, NoReturn, TypeVar

from ner.errors import InputError

REQUIRED = dataclasses.MISSING
Arguments = TypeVar("Arguments")


def key(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    group: str | None = None,
    free: bool = False,
    source: bool = False,
    path: bool = False,
    positional: bool = False,
) -> Any:
    """A dataclass field with its description.

    Args:
        default: the value without the flag; REQUIRED: there must be a flag. None: chosen automatically, and ``help`` says how.
        help: what the key does, for ``--help``.
        low, high: the smallest and the largest number allowed.
        group: the title of a group of flags in ``--help``, which starts with this one.
        free: a resumed run may have another value, because the trained model does not depend on it, or because what it names is
            compared by content.
        source: it says where and how the corpus is read.
        path: it names a file or a folder.
        positional: it is given without a flag.
    """
    about = {"help": help, "low": low, "high": high, "group": group, "free": free, "source": source, "path": path, "positional": positional}
    return dataclasses.field(default=default, metadata=about)


def parse(kind: type[Arguments], arguments: list[str]) -> Arguments:
    """The dataclass ``kind`` from flags. ``--help`` prints them all and raises SystemExit(0); bad usage is an InputError."""
    values = given(kind, arguments)
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        if field.default is REQUIRED and field.name not in values:
            raise InputError(f"{_shown(field)} is missing", hint=f"see {_program()} --help")
        check_range(field, values.get(field.name))
    return kind(**values)


def given(kind: type, arguments: list[str]) -> dict[str, Any]:
    """Field name -> value, of the flags that stand in ``arguments`` and no others."""
    fields, kinds = dataclasses.fields(kind), typing.get_type_hints(kind)
    parser = _Parser(
        prog=_program(),
        usage=f"{_program()} {''.join(f'{_shown(f)} ' for f in fields if f.default is REQUIRED)}[FLAG ...]{_rest(fields)}",
        description=kind.__doc__,
        formatter_class=functools.partial(argparse.HelpFormatter, max_help_position=28),
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        add_help=False,  # its -h would be found in a text such as "-hello"
    )
    parser.add_argument("--help", action="help", help="show this and exit")
    group: Any = parser
    known = ["--help"]
    for field in fields:
        if field.metadata["group"]:
            group = parser.add_argument_group(field.metadata["group"])
        known += _add(group, field, plain(kinds[field.name])).option_strings
    namespace, unknown = parser.parse_known_args(arguments)
    if unknown:
        raise _unknown(unknown, known)
    return {name: tuple(value) if isinstance(value, list) else value for name, value in vars(namespace).items()}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        hint = "a value that starts with - is written --flag=-value" if "expected one argument" in message else f"see {self.prog} --help"
        raise InputError(message, hint=hint)


def _add(group: Any, field: dataclasses.Field, kind: Any) -> argparse.Action:
    """Add the field's flag to a group of the parser. Without the flag the parser leaves the field out."""
    about, flag = field.metadata, _flag(field.name)
    help = f"{about['help']}{_facts(field, kind)}".replace("%", "%%")
    if kind is bool:
        return group.add_argument(flag, action=argparse.BooleanOptionalAction, help=help)
    several = typing.get_origin(kind) is tuple
    read = functools.partial(_read, flag, typing.get_args(kind)[0] if several else kind)
    if about["positional"]:
        return group.add_argument(field.name, metavar=_shown(field), nargs="*" if several else "?", type=read, help=help)
    metavar = "PATH" if about["path"] else {int: "N", float: "X", str: "NAME"}.get(kind) or f"{{{','.join(typing.get_args(kind))}}}"
    return group.add_argument(flag, metavar=metavar, type=read, help=help)


def _facts(field: dataclasses.Field, kind: Any) -> str:
    """Default and range, for the end of the help text. No default is shown where the text says what is chosen without the flag."""
    facts = []
    if kind is bool and field.default is not None:
        facts.append(f"default: {'on' if field.default else 'off'}")
    elif field.default not in (None, REQUIRED, ()):
        facts.append(f"default: {field.default}")
    if field.metadata["low"] is not None:
        facts.append(f"from {field.metadata['low']:,} to {field.metadata['high']:,}")
    return f" ({'; '.join(facts)})" if facts else ""


def _read(flag: str, kind: Any, text: str) -> Any:
    """The value that ``text`` is of a field's type."""
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    elif text and (kind is str or text in typing.get_args(kind)):  # "" is a shell variable that is not set
        return text
    raise InputError(f"{flag} {text!r} is not valid", hint=f"give {wanted(kind)}")


def plain(kind: Any) -> Any:
    """The type without ``| None``."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return next(k for k in typing.get_args(kind) if k is not types.NoneType)
    return kind


def wanted(kind: Any) -> str:
    """What to give for a type, in words: ``a whole number``."""
    if typing.get_origin(kind) is Literal:
        return f"one of {', '.join(typing.get_args(kind))}"
    return {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}[kind]


def check_range(field: dataclasses.Field, value: Any, **where: Any) -> None:
    """Refuse a number outside the field's range. ``where``: the path and line that an InputError names."""
    low, high = field.metadata["low"], field.metadata["high"]
    if low is not None and value is not None and not low <= value <= high:
        raise InputError(f"{field.name} = {value} is out of range", hint=f"give {field.name} a value from {low:,} to {high:,}", **where)


def _unknown(arguments: list[str], known: list[str]) -> InputError:
    """The error about arguments that are left over."""
    see = f"see {_program()} --help"
    flag = next((argument.split("=")[0] for argument in arguments if argument.startswith("-")), None)
    if flag is None:
        path = arguments[0]
        meant = next((name for name in ("--ckpt", "--data") if name in known and os.path.exists(path)), None)
        return InputError(f"{path!r} belongs to no flag", hint=f"did you mean {meant} {path}?" if meant else see)
    near = difflib.get_close_matches(flag, known, n=1)
    return InputError(f"there is no flag {flag}", hint=f"did you mean {near[0]}?" if near else see)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _shown(field: dataclasses.Field) -> str:
    """How the field is written in the usage line and in messages."""
    if field.metadata["positional"]:
        return field.name.upper()
    return f"{_flag(field.name)} {'PATH' if field.metadata['path'] else 'VALUE'}"


def _rest(fields: tuple[dataclasses.Field, ...]) -> str:
    return "".join(f" [{_shown(f)} ...]" for f in fields if f.metadata["positional"] and f.default is not REQUIRED)


def _program() -> str:
    return f"python {os.path.basename(sys.argv[0])}"
