"""Sharing: an encoder in a folder that timm, an ONNX runtime or melssl loads without a study."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from timm.models.resnet import ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from melssl.backbones import backbone_config
from melssl.backbones.base import Backbone
from melssl.backbones.cnn import TimmCnn, TimmCnnBackbone
from melssl.backbones.vit import SmallVit, TimmVit, VitBackbone
from melssl.data.views import VIEW_PRESETS
from melssl.encoders import load_backbone
from melssl.errors import ArtifactError, SpecError
from melssl.files import sha256, write_atomically
from melssl.frame import Frame
from melssl.methods.weights import load_whole
from melssl.settings import Json
from melssl.spec import RunSpec

MODEL, CONFIG, ONNX = "model.safetensors", "config.json", "model.onnx"
SAME, NEAR = 1e-5, 1e-3  # largest difference of an embedding, of its scale: timm's, a runtime's
BASE_VIT = "vit_tiny_patch16_224"


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What a folder holds: who can load it, its weights' digest and number, its width."""

    by_timm: bool
    sha256: str
    n_weights: int
    width: int


@dataclass(frozen=True, kw_only=True)
class _TimmForm:
    """A model of timm's with arguments by which it is the backbone, and where its weights lie."""

    architecture: str
    arguments: Mapping[str, Json]
    prefix: str


def write_encoder(spec: RunSpec, weights: Path, folder: Path) -> Shared:
    """Write ``model.safetensors`` and ``config.json`` of a run's encoder.

    Where timm has the net, the files are as it wants them, and its embeddings were compared with
    ours; where it has not (small nets, ResNets with a small stem), melssl loads them.

    Raises:
        ArtifactError: the weights are damaged.

    """
    backbone, _ = load_backbone(spec, weights)
    backbone.eval()
    form = _timm_form(spec, backbone)
    by_timm = form is not None
    if form is not None:
        _write(folder, spec, backbone, form)
        by_timm = _loads_in_timm(folder, spec, backbone)
    if not by_timm:
        _write(folder, spec, backbone, None)
    return Shared(
        by_timm=by_timm,
        sha256=sha256(folder / MODEL),
        n_weights=sum(weight.numel() for weight in backbone.parameters()),
        width=backbone.width,
    )


def load_encoder(folder: str | Path) -> Backbone:
    """Return a shared encoder in evaluation mode: images (B, 3, S, S) to embeddings (B, D).

    ``config.json`` says S (of a volume's encoder the whole shape), and the mean and deviation by
    which pixels in 0..1 are normalised.

    Raises:
        ArtifactError: the folder is none that ``write_encoder`` wrote, or is damaged.

    """
    folder = Path(folder)
    try:
        own = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["melssl"]
        tensors: dict[str, Tensor] = load_file(folder / MODEL)
        backbone = backbone_config(own["backbone"]).build(Frame(**own["frame"]))
        named = {own["prefix"] + name: tensor for name, tensor in tensors.items()}
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ArtifactError(
            f"{folder}: expected {CONFIG} and {MODEL} of a shared encoder ({error!r}); export it:"
            " python -m ablations export-encoder"
        ) from None
    load_whole(backbone, named, str(folder / MODEL))
    return backbone.eval()


def write_onnx(folder: Path) -> float:
    """Write ``model.onnx`` beside a shared encoder; return how far its embeddings are from ours.

    The number of images is free, their size is not. The difference is the largest of any embedding,
    as a share of the largest of them.

    Raises:
        SpecError: the packages of the extra ``onnx`` are not installed.
        ArtifactError: a runtime's embeddings are others.

    """
    try:
        import onnxruntime  # noqa: F401  # compared below; asked for before the work begins
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise SpecError(
            f"onnx: expected onnx, onnxscript and onnxruntime, found no {error.name};"
            ' install the extra: pip install "melssl[onnx]", or -e ".[onnx]" in the checkout'
        ) from None
    encoder = load_encoder(folder)
    images = _noise(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the exporter doubts is compared below, in numbers
        torch.onnx.export(
            encoder,
            (images,),
            folder / ONNX,
            input_names=["images"],
            output_names=["embeddings"],
            dynamic_shapes=({0: torch.export.Dim("n", min=1)},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    differs = _share(_by_runtime(folder / ONNX, images[:2]), _embeddings(encoder, images[:2]))
    if differs > NEAR:
        raise ArtifactError(
            f"{folder / ONNX}: its embeddings differ from the encoder's by {differs:.2g} of their"
            " scale; use the safetensors file"
        )
    return differs


def _timm_form(spec: RunSpec, backbone: Backbone) -> _TimmForm | None:
    config, px = spec.backbone, spec.image_px
    if isinstance(config, TimmCnn) and isinstance(backbone, TimmCnnBackbone):
        small_stem = isinstance(backbone.net, ResNet) and backbone.net.conv1.kernel_size == (3, 3)
        window: dict[str, Json] = {"window_size": config.window} if config.window else {}
        size: dict[str, Json] = {"img_size": px} if _knows_size(backbone.net) else {}
        if small_stem:
            return None
        return _TimmForm(architecture=config.model, arguments=size | window, prefix="net.")
    if isinstance(config, SmallVit | TimmVit) and isinstance(backbone, VitBackbone):
        own: dict[str, Json] = {"img_size": px, "patch_size": backbone.patch_px, "fc_norm": False}
        own["global_pool"] = "token" if config.pool == "class" else "avg"
        if isinstance(config, SmallVit):
            sizes = {"embed_dim": config.embed_width, "depth": config.depth}
            own |= {**sizes, "num_heads": config.heads}
        model = BASE_VIT if isinstance(config, SmallVit) else config.model
        return _TimmForm(architecture=model, arguments=own, prefix="vit.")
    return None


def _knows_size(net: nn.Module) -> bool:
    return hasattr(net, "set_input_size") or isinstance(net, VisionTransformer)


def _write(folder: Path, spec: RunSpec, backbone: Backbone, form: _TimmForm | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    prefix, view = form.prefix if form else "", VIEW_PRESETS["none"]
    state = {
        name.removeprefix(prefix): tensor.detach().cpu().contiguous().clone()
        for name, tensor in backbone.state_dict().items()
    }
    write_atomically(folder / MODEL, save(state, metadata={"format": "pt"}))
    shown: dict[str, Json] = {
        "input_size": list(spec.frame.shape),
        "mean": list(view.mean),
        "std": list(view.std),
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "num_classes": 0,
        "classifier": None,
    }
    own: dict[str, Json] = {"backbone": spec.backbone.plain(), "frame": asdict(spec.frame)}
    config: dict[str, Json] = {"num_features": backbone.width, "pretrained_cfg": shown}
    if form is not None:
        config |= {"architecture": form.architecture, "model_args": dict(form.arguments)}
        config["num_classes"] = 0
    config["melssl"] = {**own, "prefix": prefix}
    write_atomically(folder / CONFIG, json.dumps(config, indent=1).encode())


def _loads_in_timm(folder: Path, spec: RunSpec, backbone: Backbone) -> bool:
    """Say whether timm makes the same embeddings of the folder, to the last bits."""
    try:
        net = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    except (RuntimeError, TypeError, AssertionError, ValueError, KeyError):
        return False
    images = _noise(folder)
    theirs, ours = _embeddings(net, images), _embeddings(backbone, images)
    return theirs.shape == ours.shape and _share(theirs, ours) < SAME


def _noise(folder: Path) -> Tensor:
    """Return four images of noise of the size that an encoder was made for."""
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    size = config["pretrained_cfg"]["input_size"]
    return torch.randn(4, *size, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def _embeddings(net: nn.Module, images: Tensor) -> np.ndarray:
    embeddings: np.ndarray = net(images).numpy()
    return embeddings


def _by_runtime(path: Path, images: Tensor) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {"images": images.numpy()})[0]
    return found


def _share(theirs: np.ndarray, ours: np.ndarray) -> float:
    return float(np.abs(theirs - ours).max() / max(np.abs(ours).max(), 1e-12))
