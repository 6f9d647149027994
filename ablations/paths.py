"""Paths: every setting of a run is a factor by its path, with what its own field says of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from types import NoneType
from typing import TYPE_CHECKING, Literal, get_args, get_origin

from ablations.factor import Factor, Scale, Value
from melssl.errors import SpecError, nearest

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from melssl.settings import Settings
    from melssl.spec import RunSpec

PREFIXES = {"method": "", "pretraining": "pretraining "}  # others are called as their part is
CHOOSES = ("name", "family")  # what chooses a part's kind is a factor of its own
LONGEST = 48


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A setting by its path, as the first of the kinds (``owners``) that have it declares it."""

    path: str
    owners: tuple[str, ...]
    field: FieldInfo

    @property
    def part(self) -> str:
        """The part of a run that it belongs to: method, backbone, protocol, views, pretraining."""
        return self.path.partition(".")[0]


def path_factor(path: str) -> Factor:
    """Return the factor that varies the setting at ``path``: ``method.gap``, ``views.blur``.

    Raises:
        SpecError: there is no such setting; those that are called alike are named.

    """
    known = _settings()
    if path not in known:
        raise SpecError(f"factor {path!r} is unknown; {_alike(path, known)}")
    setting = known[path]
    reading = _reading(setting.field.annotation)
    return Factor(
        name=path,
        label=_label(setting),
        values=reading.values,
        parse=reading.parse,
        scale=_scale(setting.field) if reading.is_number else "category",
        applies=applies_at(path),
        home=home_of(path),
        change=lambda spec, value: changed(spec, path, reading.given(value)),
    )


def paths_called(name: str) -> list[str]:
    """Return the paths that end in ``name``."""
    return [path for path in _settings() if path.endswith(f".{name}")]


def has(spec: RunSpec, path: str) -> bool:
    """Say whether a run has a setting at ``path``."""
    place: object = spec
    for name in path.split("."):
        if not hasattr(place, name):
            return False
        place = getattr(place, name)
    return True


def changed(spec: RunSpec, path: str, value: object) -> RunSpec:
    """Return the run with another value at ``path``."""
    names = path.split(".")
    places: list[Settings] = [spec]
    for name in names[:-1]:
        places.append(getattr(places[-1], name))
    for place, name in zip(reversed(places), reversed(names), strict=True):
        value = place.replace(**{name: value})
    assert isinstance(value, type(spec))
    return value


def applies_at(path: str) -> Callable[[RunSpec], bool]:
    """Return what says whether a setting means anything to a run.

    What only pretraining reads means nothing to a control, though the control has it.
    """

    def applies(spec: RunSpec) -> bool:
        if path.partition(".")[0] in ("views", "pretraining"):
            return spec.method_class.trains
        return spec.method_class.sees == "images" and has(spec, path)

    return applies


def home_of(path: str) -> Callable[[RunSpec], RunSpec]:
    """Return what gives the nearest run that has a setting.

    A method of another name comes with the first backbone that serves it; of methods, those that
    learn from images alone come first, in the order of their list.
    """

    def home(spec: RunSpec) -> RunSpec:
        if has(spec, path):
            return spec
        from melssl.encoders import served

        setting = _settings()[path]
        if setting.part == "method":
            return served(spec.replace(method=_method_of(setting.owners)))
        if setting.part == "protocol":
            return spec.replace(protocol=setting.owners[0])
        return served(spec, setting.owners)

    return home


def _method_of(owners: tuple[str, ...]) -> str:
    from melssl.spec import RunSpec

    classes = {name: RunSpec.parse({"method": name}).method_class for name in owners}
    plain = [name for name, kind in classes.items() if kind.is_pretext()]
    return (*plain, *owners)[0]


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """How levels of a setting are read (``parse``), and made what the setting takes (``given``)."""

    parse: Callable[[str], Value] = str
    values: tuple[Value, ...] = ()
    is_number: bool = False
    given: Callable[[Value], object] = lambda value: value


def _reading(annotation: object) -> _Reading:
    """Text stands for all that is no number: ``true``, ``none``, and ``0.2+1`` for several."""
    if annotation is bool:
        return _Reading(values=("false", "true"))
    if annotation is int:
        return _Reading(parse=int, is_number=True)
    if annotation is float:
        return _Reading(parse=fraction, is_number=True)
    if get_origin(annotation) is Literal:
        return _Reading(values=tuple(map(str, get_args(annotation))))
    if get_origin(annotation) is tuple:
        return _Reading(given=lambda value: tuple(str(value).split("+")))
    optional = NoneType in get_args(annotation)
    return _Reading(given=lambda value: None if optional and value == "none" else value)


def fraction(text: str) -> float:
    """Read ``0.1`` or ``10%``."""
    return float(text[:-1]) / 100 if text.endswith("%") else float(text)


def _label(setting: Setting) -> str:
    """Return ``Gap (share of a tile)``: the setting's name, and what its field says of it."""
    prefix = PREFIXES.get(setting.part, f"{setting.part} ")
    words = setting.path.partition(".")[2].replace(".", " ").replace("_", " ")
    name = f"{prefix}{words}"
    said = (setting.field.description or "").partition(";")[0].partition(":")[0].strip()
    told = f" ({said})" if 0 < len(said) <= LONGEST else ""
    return f"{name[0].upper()}{name[1:]}{told}"


def _scale(field: FieldInfo) -> Scale:
    """Return linear for shares, which end at 1, and log for what may be any size.

    A level of 0 has no place on a log scale: figures then draw a linear one.
    """
    ends = [getattr(bound, side, None) for bound in field.metadata for side in ("le", "lt")]
    return "linear" if any(end is not None and end <= 1 for end in ends) else "log"


@cache
def _settings() -> dict[str, Setting]:
    from melssl.spec import PARTS

    found: dict[str, Setting] = {}
    for part, kinds in PARTS.items():
        for kind, settings in kinds.items():
            for path, field in _fields(settings, part):
                known = found.get(path)
                owners = (*known.owners, kind) if known else (kind,)
                found[path] = Setting(
                    path=path, owners=owners, field=known.field if known else field
                )
    return found


def _fields(settings: type[Settings], path: str) -> Iterator[tuple[str, FieldInfo]]:
    from melssl.settings import Settings

    for name, field in settings.model_fields.items():
        below = field.annotation
        if isinstance(below, type) and issubclass(below, Settings):
            yield from _fields(below, f"{path}.{name}")
        elif name not in CHOOSES:
            yield f"{path}.{name}", field


def _alike(path: str, known: dict[str, Setting]) -> str:
    parts = list(dict.fromkeys(setting.part for setting in known.values()))
    close = get_close_matches(path, known, n=3, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(map(repr, close))}?"
    part = path.partition(".")[0]
    if part not in parts:
        return f"a path begins with a part of a run; {nearest(part, parts)}"
    return nearest(path, [p for p in known if p.startswith(f"{part}.")])
