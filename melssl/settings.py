"""Settings: frozen, typed, checked at birth; for an unknown name the nearest is offered."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self, TypeVar

import pydantic
from pydantic import AfterValidator, BaseModel, ConfigDict

from melssl.errors import SpecError, listed, nearest
from melssl.userpath import user_path

UserPath = Annotated[Path, AfterValidator(user_path)]
Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True)
class Later:
    """Marks a field, in ``Annotated``, that came after keys were made with its class.

    At its default it is in no key, so that finished stages stay valid.
    """


class Settings(BaseModel):
    """Base of every description: keyword-only, frozen, no unknown names, no NaN."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )

    @classmethod
    def parse(cls, data: Mapping[str, object]) -> Self:
        """Build from plain data.

        Raises:
            SpecError: all faults in one list, with the nearest known name for an unknown one.

        """
        try:
            return cls.model_validate(data)
        except pydantic.ValidationError as error:
            raise SpecError(f"{cls.__name__}:\n{listed(_faults(cls, error))}") from None

    def replace(self, **changes: object) -> Self:
        """Return a checked copy with some fields changed."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        for name in changes:
            if name not in values:
                raise SpecError(f"{type(self).__name__}.{name}: unknown; {nearest(name, values)}")
        return type(self).parse(values | changes)

    def plain(self) -> dict[str, Json]:
        """Return the settings, defaults included, as JSON-ready data."""
        return self.model_dump(mode="json", serialize_as_any=True)

    def keyed(self) -> dict[str, Json]:
        """Return what enters a key: ``plain`` without ``Later`` fields that are at their default.

        What reads a file overrides it and puts the digest of the content in the place of the path.
        """
        plain = self.plain()
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if any(isinstance(mark, Later) for mark in field.metadata) and value == field.default:
                del plain[name]
            elif isinstance(value, Settings):
                plain[name] = value.keyed()
        return plain


Chosen = TypeVar("Chosen", bound=Settings)


def choose(
    kinds: Mapping[str, type[Chosen]], data: object, field: str, *, what: str = ""
) -> Chosen:
    """Build the settings class that ``data[field]`` names; a bare string names it with defaults.

    ``what`` is what errors call it, where that is not the field's own name.
    """
    if isinstance(data, Settings):
        return data  # type: ignore[return-value]  # the field's own annotation checks the class
    values = {field: data} if isinstance(data, str) else data
    if not isinstance(values, Mapping):
        raise SpecError(f"{what or field}: expected a name or a mapping, got {data!r}")
    name = values.get(field)
    if name not in kinds:
        raise SpecError(f"{what or field} {name!r} is unknown; {nearest(str(name), kinds)}")
    return kinds[str(name)].parse(values)


def with_overrides(settings: Chosen, overrides: Sequence[str]) -> Chosen:
    """Apply ``a.b=value`` overrides in order; values are JSON where they parse as such, else text.

    Each sees what the one before has made: ``method=mae`` and then ``method.mask_ratio=0.5``.

    Raises:
        SpecError: a name that does not exist, or a value of the wrong type.

    """
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals:
            raise SpecError(f"--set {override!r}: expected key=value, for example method.name=mae")
        data = settings.plain()
        _assign(data, path.strip().split("."), _value(text), override)
        settings = type(settings).parse(data)
    return settings


def digest(payload: object) -> str:
    """Return 20 hex digits that identify JSON-ready ``payload``, whatever its key order."""
    return hashed(canonical(payload))


def canonical(payload: object) -> str:
    """Return the one JSON text of ``payload``: names sorted, no blanks, no NaN."""
    return json.dumps(payload, sort_keys=True, separators=(",", ":"), allow_nan=False)


def hashed(text: str) -> str:
    """Return 20 hex digits that identify a canonical text."""
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _assign(data: dict[str, Json], path: list[str], value: Json, override: str) -> None:
    place = data
    for depth, name in enumerate(path):
        if name not in place:
            where = ".".join(path[:depth]) or "the top level"
            raise SpecError(f"--set {override!r}: no {name!r} in {where}; {nearest(name, place)}")
        if depth == len(path) - 1:
            place[name] = value
            return
        below = place[name]
        if below is None:  # an absent part comes to be; its own checks follow when it is parsed
            below = place[name] = dict.fromkeys(path[depth + 1 : depth + 2])
        if not isinstance(below, dict):
            raise SpecError(f"--set {override!r}: {'.'.join(path[: depth + 1])} has no fields")
        place = below


def _value(text: str) -> Json:
    try:
        value: Json = json.loads(text)
    except json.JSONDecodeError:
        return text
    return value


def _faults(cls: type[BaseModel], error: pydantic.ValidationError) -> list[str]:
    faults = []
    for fault in error.errors(include_url=False):
        where = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            owner = _owner(cls, fault["loc"][:-1])
            known = nearest(str(fault["loc"][-1]), owner.model_fields)
            faults.append(f"{where}: unknown; {known}")
        else:
            faults.append(f"{where}: {fault['msg']} (got {fault['input']!r})")
    return faults


def _owner(cls: type[BaseModel], path: Sequence[int | str]) -> type[BaseModel]:
    for part in path:
        field = cls.model_fields.get(str(part))
        annotation = field.annotation if field else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        cls = annotation
    return cls
