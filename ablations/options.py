"""Options of the command line: declared once, read by `ablations` and by every study. No torch."""

from __future__ import annotations

import argparse
import errno
import os
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.factor import Factor
from ablations.factors import FACTORS, LABEL_FRACTION, METHOD, factor_named, pretexts
from melssl.errors import MelsslError, SpecError, nearest
from melssl.userpath import user_path, user_root

if TYPE_CHECKING:
    from ablations.design import Study
    from melssl.spec import RunSpec

ROOT = Path(__file__).resolve().parent.parent
BACKENDS = ("loky", "dask", "sequential")
CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
WATCH = ("warn", "stop", "off")
REFERENCES = ("metadata_clinical", "metadata_all")


def outputs() -> Path:
    """Return the folder of everything that is written: $MELSSL_OUT, else outputs/ in the tree."""
    return user_path(os.environ.get("MELSSL_OUT") or ROOT / "outputs").resolve()


def add_study_options(parser: argparse.ArgumentParser, *, factor: bool) -> None:
    """Declare what a study consists of. An empty value means the preset's or factor's own."""
    group = parser.add_argument_group("study")
    if factor:
        known = ", ".join(FACTORS)
        group.add_argument(
            "--factor",
            default="",
            help=f"what is varied; several are crossed: a,b (known: {known}; and every setting of"
            " method, backbone, protocol, views and pretraining by its path: method.temperature)",
        )
        group.add_argument(
            "--values", default="", help="levels: 0.5,0.75; of several factors: 0.5,0.75;8,16"
        )
    group.add_argument("--method", default="", help="pretext method(s) beside the control: simclr")
    group.add_argument(
        "--fractions",
        default="",
        help="label budgets: 0.05,0.1,1 or 5%%,100%%, or numbers of patients: 6,12,24,100%%",
    )
    group.add_argument("--folds", default="", help="number of patient folds")
    group.add_argument("--repeats", default="", help="how often the folds are dealt anew: 5")
    group.add_argument("--draws", default="", help="random draws of every budget below 100 %%")
    group.add_argument("--seeds", default="", help="training seeds")
    group.add_argument("--source", default="", help="cohort: synthetic, ham10000, siim_isic, ...")
    group.add_argument("--data-root", default="", help="folder of the cohort's official files")
    group.add_argument(
        "--preset",
        default="",
        help="smoke, demo, cpu, gpu, volumes, clips or a file that a search wrote; if not: demo for"
        " made cohorts, else cpu, volumes or clips, by what the source holds",
    )
    group.add_argument("--control", default="no_pretext", help="the control's method, or 'none'")
    group.add_argument(
        "--baselines",
        default="",
        help=f"methods that see metadata only, or 'none' (default: {','.join(REFERENCES)},"
        " where the cohort has such columns)",
    )
    group.add_argument("--name", default="", help="name of the study and of its folder")
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="override a setting of the baseline, e.g. pretraining.epochs=50; may be repeated",
    )


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Declare where and how a study runs; nothing here changes a number."""
    group = parser.add_argument_group("where it runs")
    group.add_argument("--backend", default="", help=f"{', '.join(BACKENDS)} (default: loky)")
    group.add_argument(
        "--scheduler",
        default="",
        help="tcp://host:8786, the Dask cluster to run on (without: --workers processes here)",
    )
    group.add_argument("--workers", default="", help="processes (default: one per core)")
    group.add_argument(
        "--threads", default="", help="CPU threads of a stage (cores / workers; 1 on a cluster)"
    )
    group.add_argument("--device", default="", help="auto, cpu or cuda (default: auto)")
    group.add_argument("--devices-per-stage", default="", help="processes of one training (DDP)")
    group.add_argument("--stages-per-device", default="", help="small ones may share a GPU (1)")
    group.add_argument(
        "--stage-limit", default="", help="end a stage that takes longer: 90min, 2h (default: none)"
    )
    group.add_argument(
        "--retries",
        default="",
        help="how often a stage is run again whose process died or took too long (default: 2)",
    )
    group.add_argument(
        "--watch",
        default="",
        help=f"{', '.join(WATCH)}: what a pretraining does that goes wrong (default: warn)",
    )
    group.add_argument("--tracking-uri", default="", help="MLflow server (default: a local SQLite)")
    group.add_argument("--vault", default="", help="folder of finished stages")


def exit_code(command: Callable[[], int]) -> int:
    """Return the command's own code, 2 after an error meant for the user, 130 if stopped."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return command()
    except MelsslError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in CANNOT_WRITE:
            raise
        where = f"{error.filename}: " if error.filename else ""
        text = f"error: {where}{error.strerror}; what has finished is kept: make room or get the"
        print(f"{text} right to write, and the same command goes on", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where a study runs."""

    backend: str
    workers: int
    threads: int
    device: str
    n_devices: int
    tracking_uri: str
    vault: Path
    watch: str = "warn"
    scheduler: str = ""
    stages_per_device: int = 1
    stage_limit: float | None = None
    retries: int = 2


def run_options(args: argparse.Namespace) -> RunOptions:
    """Read the options of ``add_run_options``."""
    backend = args.backend or "loky"
    if backend not in BACKENDS:
        raise SpecError(f"backend {backend!r} is unknown; {nearest(backend, BACKENDS)}")
    watch = args.watch or "warn"
    if watch not in WATCH:
        raise SpecError(f"watch {watch!r} is unknown; {nearest(watch, WATCH)}")
    if args.scheduler and backend != "dask":
        raise SpecError(f"--scheduler {args.scheduler}: is for --backend dask, not {backend}")
    limit = seconds_of(args.stage_limit) if args.stage_limit else None
    if limit is not None and backend == "sequential":
        raise SpecError(
            "--stage-limit ends a stage's process, and the sequential backend has none but this"
            " one; use --backend loky --workers 1"
        )
    cores = len(os.sched_getaffinity(0))
    workers = _count("workers", args.workers, cores) if backend != "sequential" else 1
    environment = os.environ.get("MLFLOW_TRACKING_URI", "")
    return RunOptions(
        backend=backend,
        workers=workers,
        threads=_count("threads", args.threads, 1 if args.scheduler else max(1, cores // workers)),
        device=args.device or "auto",
        n_devices=_count("devices-per-stage", args.devices_per_stage, 1),
        tracking_uri=args.tracking_uri or environment,
        vault=user_path(args.vault).resolve() if args.vault else outputs() / "vault",
        watch=watch,
        scheduler=args.scheduler,
        stages_per_device=_count("stages-per-device", args.stages_per_device, 1),
        stage_limit=limit,
        retries=_count("retries", args.retries, 2, least=0),
    )


def seconds_of(text: str) -> float:
    """Return the seconds of ``90s``, ``45min``, ``2h`` or ``1d``.

    Raises:
        SpecError: it is none of these.

    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d)", text.strip())
    if found is None or float(found[1]) == 0:
        raise SpecError(f"--stage-limit {text!r}: expected a time such as 90s, 45min, 2h or 1d")
    return float(found[1]) * UNITS[found[2]]


def study_from(args: argparse.Namespace, default_factor: str) -> Study:
    """Build the study that the options describe.

    Raises:
        SpecError: an unknown name or a bad value.

    """
    from ablations.design import Study
    from ablations.presets import VIEWS, fitting, preset
    from melssl.settings import with_overrides
    from melssl.spec import RunSpec

    sized = preset(args.preset) if args.preset else fitting(args.source)
    chosen = getattr(args, "factor", "") or default_factor
    factors = [factor_named(name.strip()) for name in chosen.split(",")]
    baseline = _with_cohort(RunSpec.parse(sized.baseline), args.source, args.data_root)
    if "views" not in sized.baseline:
        baseline = baseline.replace(views=VIEWS[baseline.cohort.medium.kind])
    if args.folds:
        folds = baseline.folds.replace(n_folds=_count("folds", args.folds, 0))
        baseline = baseline.replace(folds=folds)
    methods = [name.strip() for name in args.method.split(",") if name.strip()]
    if methods:
        baseline = METHOD.change(baseline, methods[0])
    for factor in factors:
        baseline = factor.home(baseline)
    baseline = with_overrides(baseline, args.overrides)
    levels = _levels(factors, getattr(args, "values", ""), baseline)
    if len(methods) > 1:
        levels.setdefault(METHOD.name, tuple(methods))
    # metadata has no weights that could have been initialised otherwise
    images = baseline.method_class.sees == "images"
    control = args.control if images and args.control != "none" else None
    fractions = _parsed(LABEL_FRACTION, _split(args.fractions), "--fractions")
    levels.setdefault(LABEL_FRACTION.name, fractions or sized.fractions)
    return Study.parse(
        {
            "name": args.name or _name(factors, baseline.cohort.source, Path(args.preset).stem),
            "question": _question(factors),
            "baseline": baseline,
            "levels": levels,
            "control": control,
            "references": _references(args.baselines) if images else (),
            "n_repeats": _count("repeats", args.repeats, 1),
            "n_draws": _count("draws", args.draws, sized.n_draws),
            "n_seeds": _count("seeds", args.seeds, sized.n_seeds),
            "overrides": tuple(args.overrides),
        }
    )


def _references(text: str) -> tuple[str, ...]:
    return () if text == "none" else tuple(_split(text)) or REFERENCES


def _with_cohort(baseline: RunSpec, source: str, root: str) -> RunSpec:
    name = source or baseline.cohort.source
    cohort = baseline.cohort.plain() if name == baseline.cohort.source else {"source": name}
    return baseline.replace(cohort=cohort | user_root(root))


def _levels(
    factors: list[Factor], text: str, baseline: RunSpec
) -> dict[str, tuple[str | int | float, ...]]:
    parts = [part.strip() for part in text.split(";")] if text.strip() else []
    if parts and len(parts) != len(factors):
        raise SpecError(
            f"--values {text!r}: expected {len(factors)} list(s) separated by ';', got {len(parts)}"
        )
    levels = {}
    for index, factor in enumerate(factors):
        given = _split(parts[index]) if parts else []
        values = _parsed(factor, given, f"--values of {factor.name}")
        if factor is METHOD and not values:
            _say_what_is_left_out(baseline)
        if not (values := values or factor.levels(baseline)):
            raise SpecError(f"factor {factor.name} has no levels of its own: give them by --values")
        if given or factor is not LABEL_FRACTION:
            levels[factor.name] = values
    return levels


def _parsed(factor: Factor, texts: list[str], option: str) -> tuple[str | int | float, ...]:
    try:
        return tuple(map(factor.parse, texts))
    except ValueError as error:
        raise SpecError(f"{option}: {error}") from None


def _say_what_is_left_out(baseline: RunSpec) -> None:
    others = ", ".join(map(str, pretexts(baseline, served=False)))
    if others:
        told = f"left out, for they need patch tokens: {others}; --set backbone=small_vit has some"
        print(told, file=sys.stderr)


def _name(factors: list[Factor], source: str, preset: str) -> str:
    return "-".join(filter(None, ["_".join(f.name for f in factors), source, preset]))


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _count(name: str, text: str, default: int, *, least: int = 1) -> int:
    try:
        value = int(text) if text else default
    except ValueError:
        value = least - 1
    if value < least:
        raise SpecError(f"--{name} {text!r}: expected a whole number from {least}")
    return value


def _question(factors: list[Factor]) -> str:
    if factors == [LABEL_FRACTION]:
        return "How many labels does pretraining save?"
    names = " and ".join(factor.label.lower() for factor in factors)
    return f"How does the score depend on {names}?"
