"""The one list of factors: add a constant here and it is known everywhere by its name.

Any other setting is a factor by its path (``method.gap``, see ``paths``); a constant is worth its
lines where label, levels or the way to change a run are not the setting's own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.factor import Factor, Scale, Value
from ablations.paths import applies_at, changed, fraction, home_of, path_factor, paths_called
from melssl.errors import SpecError, nearest
from melssl.userpath import user_path

if TYPE_CHECKING:
    from melssl.spec import RunSpec

RANDOM = "random"
POOLS = {
    "train": "training patients",
    "train+test": "all patients (transductive)",
    "external": "training, unlabelled and external",
}
TURNS: dict[str, dict[str, object]] = {
    "none": {"vertical_flip": 0.0, "quarter_turns": False},
    "half": {"vertical_flip": 0.5, "quarter_turns": False},
    "quarter": {"vertical_flip": 0.5, "quarter_turns": True},
}
COLOURS = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.5}  # largest strengths
LOSSES_OF_COLOUR = ("grayscale", "solarise")  # probabilities


def _percent(value: Value) -> str:
    return f"{100 * float(value):g} %"


def _budget(text: str) -> Value:
    """Read a share, ``0.1`` or ``10%``, or a number of patients, ``6``."""
    share = fraction(text)
    is_number = share > 1 and not text.endswith("%")
    if share > 1 and not (is_number and share.is_integer()):
        raise ValueError(
            f"label budget {text!r}: expected a share up to 100% (0.1, 10%) or a whole number of"
            " patients (6)"
        )
    return int(share) if is_number else share


def _budget_shown(value: Value) -> str:
    return f"{value:g}" if not isinstance(value, str) and value > 1 else _percent(value)


def _trains(spec: RunSpec) -> bool:
    return spec.method_class.trains


def _sees_images(spec: RunSpec) -> bool:
    return spec.method_class.sees == "images"


def _at(
    path: str,
    name: str,
    label: str,
    values: tuple[Value, ...],
    parse: Callable[[str], Value],
    *,
    scale: Scale = "category",
    show: Callable[[Value], str] = str,
) -> Factor:
    """Return the factor of a setting that deserves a name, a label and levels of its own."""
    return Factor(
        name=name,
        label=label,
        values=values,
        parse=parse,
        scale=scale,
        show=show,
        applies=applies_at(path),
        home=home_of(path),
        change=lambda spec, value: changed(spec, path, value),
    )


def _with_method(spec: RunSpec, name: Value) -> RunSpec:
    """Keep the settings of the baseline's own method; take the defaults of any other."""
    return spec if spec.method.name == name else spec.replace(method=name)


def _turns(value: Value) -> dict[str, object]:
    if value not in TURNS:
        raise SpecError(f"view_rotation {value!r} is unknown; {nearest(str(value), TURNS)}")
    return TURNS[str(value)]


def _of_length(spec: RunSpec, epochs: Value) -> RunSpec:
    """Change the epochs; before a stable phase the warm-up stays, so that lengths share a trunk."""
    training = spec.pretraining
    if training.schedule == "stable_decay" and training.warmup_epochs is None:
        training = training.replace(warmup_epochs=training.warmup_share * training.epochs)
    return spec.replace(pretraining=training.replace(epochs=epochs))


def _coloured(spec: RunSpec, strength: Value) -> RunSpec:
    """Multiply all that changes colour, so that the views keep their own balance of changes."""
    views, times = spec.views, float(strength)
    now = {name: float(getattr(views, name)) for name in (*COLOURS, *LOSSES_OF_COLOUR)}
    most = min((COLOURS.get(name, 1.0) / x for name, x in now.items() if x > 0), default=times)
    if not 0 <= times <= most:
        raise SpecError(f"colour {times:g}: these views allow a strength of 0 to {most:g}")
    return spec.replace(views=views.replace(**{name: x * times for name, x in now.items()}))


def _weights_file(text: str) -> str:
    return text if text == RANDOM else str(user_path(text).resolve())


def _started(spec: RunSpec, value: Value) -> RunSpec:
    return spec.replace(init=None if value == RANDOM else value)


def pretexts(spec: RunSpec, *, served: bool = True) -> tuple[Value, ...]:
    """Return the methods for the cohort's samples alone that the backbone serves, or does not."""
    from melssl.spec import PARTS, RunSpec

    kind = spec.cohort.medium.kind
    classes = {name: RunSpec.parse({"method": name}).method_class for name in PARTS["method"]}
    return tuple(
        name
        for name, method in classes.items()
        if method.is_pretext()
        and kind in method.media
        and method.serves(spec.backbone, kind) == served
    )


METHOD = Factor(
    name="method",
    label="Pretraining",
    values=(),
    parse=str,
    change=_with_method,
    choice=pretexts,
)
LABEL_FRACTION = Factor(
    name="label_fraction",
    label="Labelled patients",
    values=(0.05, 0.1, 0.25, 0.5, 1.0),
    parse=_budget,
    scale="log",
    show=_budget_shown,
    change=lambda spec, value: spec.replace(budget=spec.budget.sized(float(value))),
)
MASK_RATIO = _at(
    "method.mask_ratio",
    name="mask_ratio",
    label="Mask ratio",
    values=(0.25, 0.5, 0.75, 0.9),
    parse=fraction,
    scale="linear",
)
MASK_SHAPE = _at(
    "method.mask_shape",
    name="mask_shape",
    label="Mask shape",
    values=("random", "block", "group"),
    parse=str,
)
DECODER_DEPTH = _at(
    "method.decoder_depth",
    name="decoder_depth",
    label="Decoder depth (blocks)",
    values=(1, 2, 4),
    parse=int,
    scale="log",
)
TEMPERATURE = _at(
    "method.temperature",
    name="temperature",
    label="Temperature",
    values=(0.1, 0.2, 0.5),
    parse=float,
    scale="log",
)
QUEUE_SIZE = _at(
    "method.queue_size",
    name="queue_size",
    label="Queue (embeddings)",
    values=(256, 1024, 4096),
    parse=int,
    scale="log",
)
MOMENTUM = _at(
    "method.momentum",
    name="momentum",
    label="Momentum of the target",
    values=(0.9, 0.99, 0.996, 0.999),  # what counts is how far from 1: no scale shows that
    parse=float,
)
PROJECTION_WIDTH = _at(
    "method.projection_width",
    name="projection_width",
    label="Projection width",
    values=(32, 128, 512),
    parse=int,
    scale="log",
)
POSITIVES = _at(
    "method.positives",
    name="positives",
    label="Positive pair",
    values=("image", "patient"),
    parse=str,
    show=lambda value: f"two views of one {value}",
)
PRETRAIN_EPOCHS = Factor(
    name="pretrain_epochs",
    label="Pretraining epochs",
    values=(5, 10, 20, 40),
    parse=int,
    scale="log",
    applies=_trains,
    change=_of_length,
)
POOL = Factor(
    name="pool",
    label="Pool",
    values=("train", "train+test"),
    parse=str,
    applies=_trains,
    show=lambda value: POOLS.get(str(value), str(value)),
    change=lambda spec, value: spec.replace(pool=value),
)
POOL_SIZE = Factor(
    name="pool_size",
    label="Patients of the pool",
    values=(0.1, 0.25, 0.5, 1.0),
    parse=fraction,
    scale="log",
    applies=_trains,
    show=_percent,
    change=lambda spec, value: spec.replace(pool_size=value),
)
VIEWS = Factor(
    name="views",
    label="Views",
    values=("medical", "imagenet"),
    parse=str,
    applies=_trains,
    change=lambda spec, value: spec.replace(views=value),
)
CROP_SCALE = Factor(
    name="crop_scale",
    label="Smallest crop (share of the image)",
    values=(0.08, 0.2, 0.4, 0.8),
    parse=fraction,
    scale="log",
    applies=_trains,
    change=lambda spec, value: changed(spec, "views.crop_scale", (value, spec.views.crop_scale[1])),
)
COLOUR = Factor(
    name="colour",
    label="Strength of colour changes",
    values=(0.0, 0.5, 1.0, 2.0),
    parse=float,
    scale="linear",
    applies=_trains,
    change=_coloured,
)
VIEW_ROTATION = Factor(
    name="view_rotation",
    label="Turns of the views",
    values=tuple(TURNS),
    parse=str,
    applies=_trains,
    change=lambda spec, value: spec.replace(views=spec.views.replace(**_turns(value))),
)
BACKBONE = Factor(
    name="backbone",
    label="Backbone",
    values=("small_cnn", "resnet10t"),
    parse=str,
    applies=_sees_images,
    change=lambda spec, value: spec.replace(backbone=value),
)
PATCH_SIZE = _at(
    "backbone.patch_px",
    name="patch_size",
    label="Patch (px)",
    values=(4, 8, 16),
    parse=int,
    scale="log",
)
INIT = Factor(
    name="init",
    label="Initial weights",
    values=(),
    parse=_weights_file,
    applies=_sees_images,
    show=lambda value: "/".join(Path(str(value)).with_suffix("").parts[-2:]),
    change=_started,
)
IMAGE_SIZE = Factor(
    name="image_size",
    label="Image size (px)",
    values=(32, 48, 64),
    parse=int,
    scale="log",
    applies=_sees_images,
    change=lambda spec, value: spec.replace(image_px=value),
)
PROTOCOL = Factor(
    name="protocol",
    label="Protocol",
    values=("linear_probe", "knn", "pseudo_labels", "partial_fine_tune", "fine_tune"),
    parse=str,
    applies=_sees_images,
    change=lambda spec, value: (
        spec if spec.protocol.name == value else spec.replace(protocol=value)
    ),
)
LAYER = _at(
    "protocol.layer",
    name="layer",
    label="Layer, from the input",
    values=(1, 2, 3, 4),
    parse=int,
    scale="linear",
)
METADATA_COLUMNS = Factor(
    name="metadata_columns",
    label="Metadata",
    values=("clinical", "acquisition", "clinical+acquisition"),
    parse=str,
    applies=lambda spec: spec.method.name == "metadata",
    home=lambda spec: spec.replace(method="metadata"),
    change=lambda spec, value: spec.replace(
        method=spec.method.replace(columns=tuple(str(value).split("+")))
    ),
)
SEED = Factor(
    name="seed",
    label="Seed",
    values=(0, 1, 2),
    parse=int,
    applies=_sees_images,
    change=lambda spec, value: spec.replace(seed=value),
)


FACTORS: dict[str, Factor] = {
    factor.name: factor
    for factor in (
        METHOD,
        LABEL_FRACTION,
        MASK_RATIO,
        MASK_SHAPE,
        DECODER_DEPTH,
        TEMPERATURE,
        QUEUE_SIZE,
        MOMENTUM,
        PROJECTION_WIDTH,
        POSITIVES,
        PRETRAIN_EPOCHS,
        POOL,
        POOL_SIZE,
        VIEWS,
        CROP_SCALE,
        COLOUR,
        VIEW_ROTATION,
        BACKBONE,
        PATCH_SIZE,
        INIT,
        IMAGE_SIZE,
        PROTOCOL,
        LAYER,
        METADATA_COLUMNS,
        SEED,
    )
}


def factor_named(name: str) -> Factor:
    """Return the factor of that name, or of the setting at that path.

    Raises:
        SpecError: there is neither; the nearest are offered.

    """
    if name in FACTORS:
        return FACTORS[name]
    if "." in name:
        return path_factor(name)
    paths = paths_called(name)
    told = f"by its path it is {' or '.join(paths)}" if paths else nearest(name, FACTORS)
    raise SpecError(f"factor {name!r} is unknown; {told}")
