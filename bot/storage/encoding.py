"""The values of a turn as JSON text and back, exactly. Typed, strict and versioned.

A codec is built once per annotation. Dataclasses become objects; members of a union of dataclasses carry their
class name as "kind"; tuples become arrays; floats keep every bit. What does not fit the annotation is refused.
Knows nothing about tables.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Hashable
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from bot import FrontdeskError

FORMAT = 1
"""Raise when a dataclass of a turn changes so that stored JSON no longer decodes; keep decoding the old format.
A new field with a default needs no new format: old rows read back with the default."""

T = TypeVar("T")
Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


class _Codec(NamedTuple):
    encode: Callable[[Any], Json]
    decode: Callable[[Any], Any]


def to_json(annotation: Hashable, value: object) -> str:
    """JSON text of `value`, one line. Raises FrontdeskError if it holds something the annotation does not."""
    try:
        return json.dumps(_codec(annotation).encode(value), ensure_ascii=False, separators=(",", ":"))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FrontdeskError(f"{_name(annotation)} cannot be stored: {error}") from error


def from_json(annotation: type[T], text: str) -> T:
    """The value that `to_json` wrote. Raises FrontdeskError if the text is damaged or of another shape."""
    try:
        return cast(T, _codec(cast(Hashable, annotation)).decode(json.loads(text)))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FrontdeskError(
            f"the record holds a {_name(annotation)} that cannot be read ({error}): restore a backup"
        ) from error


def check_format(stored: int) -> None:
    """Refuses rows of a later program instead of guessing what they mean."""
    if stored != FORMAT:
        raise FrontdeskError(
            f"the record holds turns of format {stored}, this program reads {FORMAT}: install the newer Frontdesk"
        )


@cache
def _codec(annotation: Any) -> _Codec:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in (str, bool):
        return _plain(annotation)
    if annotation is int:
        return _Codec(_int, _int)
    if annotation is float:
        return _Codec(_float, _float)
    if origin is Literal:
        return _literal(arguments)
    if origin is tuple:
        return _tuple(arguments)
    if origin in (Union, UnionType):
        return _union(arguments)
    if is_dataclass(annotation):
        return _dataclass(cast(type, annotation))
    raise TypeError(f"{annotation!r} has no JSON form")


def _plain(kind: type) -> _Codec:
    def same(value: Any) -> Any:
        if type(value) is not kind:
            raise TypeError(f"{value!r} is not {kind.__name__}")
        return value

    return _Codec(same, same)


def _int(value: Any) -> int:
    return int(_expect(value, Integral))


def _float(value: Any) -> float:
    number = float(_expect(value, Real))  # a number of numpy too, which must not leave as such
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is not a finite number")
    return number


def _literal(allowed: tuple[Any, ...]) -> _Codec:
    def one_of(value: Any) -> Any:
        if value not in allowed:
            raise ValueError(f"{value!r} is none of {', '.join(map(repr, allowed))}")
        return value

    return _Codec(one_of, one_of)


def _tuple(arguments: tuple[Any, ...]) -> _Codec:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        item = _codec(arguments[0])
        return _Codec(
            lambda value: [item.encode(each) for each in _expect(value, tuple)],
            lambda data: tuple([item.decode(each) for each in _expect(data, list)]),
        )
    items = [_codec(argument) for argument in arguments]
    return _Codec(
        lambda value: [each.encode(part) for each, part in zip(items, _expect(value, tuple), strict=True)],
        lambda data: tuple([each.decode(part) for each, part in zip(items, _expect(data, list), strict=True)]),
    )


def _union(arguments: tuple[Any, ...]) -> _Codec:
    if NoneType in arguments:
        (other,) = (argument for argument in arguments if argument is not NoneType)
        inner = _codec(other)
        return _Codec(
            lambda value: None if value is None else inner.encode(value),
            lambda data: None if data is None else inner.decode(data),
        )
    members = {member.__name__: _codec(member) for member in arguments}

    def encode(value: Any) -> Json:
        kind = type(value).__name__
        return {"kind": kind, **cast("dict[str, Json]", members[kind].encode(value))}

    def decode(data: Any) -> Any:
        rest = dict(data)
        return members[rest.pop("kind")].decode(rest)

    return _Codec(encode, decode)


def _dataclass(kind: type) -> _Codec:
    hints = get_type_hints(kind)
    codecs = {each.name: _codec(hints[each.name]) for each in fields(kind)}
    optional = {
        each.name for each in fields(kind) if each.default is not MISSING or each.default_factory is not MISSING
    }

    def encode(value: Any) -> Json:
        if type(value) is not kind:
            raise TypeError(f"{value!r} is not a {kind.__name__}")
        return {name: codec.encode(getattr(value, name)) for name, codec in codecs.items()}

    def decode(data: Any) -> Any:
        if strange := data.keys() - codecs.keys():
            raise ValueError(f"{kind.__name__} has no field {', '.join(sorted(strange))}")
        if missing := codecs.keys() - data.keys() - optional:
            raise ValueError(f"{kind.__name__} lacks {', '.join(sorted(missing))}")
        return kind(**{name: codecs[name].decode(part) for name, part in data.items()})

    return _Codec(encode, decode)


def _expect(value: Any, kind: type) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{value!r} is not of type {kind.__name__.lower()}")
    return value


def _name(annotation: object) -> str:
    return (
        annotation.__name__
        if isinstance(annotation, type)
        else str(annotation).replace("bot.conversation.messages.", "")
    )
