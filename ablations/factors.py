"""The one list of factors: add a constant here and it is known everywhere by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ablations.factor import Factor, Value

if TYPE_CHECKING:
    from melssl.spec import RunSpec


def _fraction(text: str) -> float:
    """Read ``0.1`` or ``10%``."""
    return float(text[:-1]) / 100 if text.endswith("%") else float(text)


def _percent(value: Value) -> str:
    return f"{100 * float(value):g} %"


def _trains(spec: RunSpec) -> bool:
    return spec.method_class.trains


def _sees_images(spec: RunSpec) -> bool:
    return spec.method_class.sees == "images"


def _with_method(spec: RunSpec, name: Value) -> RunSpec:
    """Keep the settings of the baseline's own method; take the defaults of any other."""
    return spec if spec.method.name == name else spec.replace(method=name)


def _masked(spec: RunSpec) -> RunSpec:
    """Return the baseline with MAE on a ViT, unless its method has a mask ratio already."""
    if hasattr(spec.method, "mask_ratio"):
        return spec
    return spec.replace(method="mae", backbone="small_vit")


def _contrastive(spec: RunSpec) -> RunSpec:
    return spec if hasattr(spec.method, "temperature") else spec.replace(method="simclr")


METHOD = Factor(
    name="method",
    label="Pretraining",
    values=("simclr",),
    parse=str,
    change=_with_method,
)
LABEL_FRACTION = Factor(
    name="label_fraction",
    label="Labelled patients",
    values=(0.05, 0.1, 0.25, 0.5, 1.0),
    parse=_fraction,
    scale="log",
    show=_percent,
    change=lambda spec, value: spec.replace(budget=spec.budget.replace(fraction=value)),
)
MASK_RATIO = Factor(
    name="mask_ratio",
    label="Mask ratio",
    values=(0.25, 0.5, 0.75, 0.9),
    parse=_fraction,
    scale="linear",
    applies=lambda spec: hasattr(spec.method, "mask_ratio"),
    home=_masked,
    change=lambda spec, value: spec.replace(method=spec.method.replace(mask_ratio=value)),
)
TEMPERATURE = Factor(
    name="temperature",
    label="Temperature",
    values=(0.1, 0.2, 0.5),
    parse=float,
    scale="log",
    applies=lambda spec: hasattr(spec.method, "temperature"),
    home=_contrastive,
    change=lambda spec, value: spec.replace(method=spec.method.replace(temperature=value)),
)
PRETRAIN_EPOCHS = Factor(
    name="pretrain_epochs",
    label="Pretraining epochs",
    values=(5, 10, 20, 40),
    parse=int,
    scale="log",
    applies=_trains,
    change=lambda spec, value: spec.replace(pretraining=spec.pretraining.replace(epochs=value)),
)
VIEWS = Factor(
    name="views",
    label="Views",
    values=("medical", "imagenet"),
    parse=str,
    applies=_trains,
    change=lambda spec, value: spec.replace(views=value),
)
BACKBONE = Factor(
    name="backbone",
    label="Backbone",
    values=("small_cnn", "resnet10t"),
    parse=str,
    applies=_sees_images,
    change=lambda spec, value: spec.replace(backbone=value),
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
    values=("linear_probe", "knn", "fine_tune"),
    parse=str,
    applies=_sees_images,
    change=lambda spec, value: (
        spec if spec.protocol.name == value else spec.replace(protocol=value)
    ),
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
        TEMPERATURE,
        PRETRAIN_EPOCHS,
        VIEWS,
        BACKBONE,
        IMAGE_SIZE,
        PROTOCOL,
        METADATA_COLUMNS,
        SEED,
    )
}
