"""A vault checked, swept and moved: damage is found and made again, and nothing read runs code."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from ablations.__main__ import main
from ablations.commands import load_study, run_study, study_folder
from ablations.design import Study
from ablations.keeping.check import check
from ablations.keeping.parcel import unpack
from ablations.keeping.users import remember
from ablations.options import ROOT, RunOptions
from ablations.vault import Vault
from melssl.errors import ArtifactError
from melssl.spec import RunSpec

TINY = {
    "cohort": {"source": "synthetic", "n_patients": 30, "image_px": 32},
    "image_px": 32,
    "folds": {"n_folds": 2},
    "backbone": {"family": "small_cnn", "first_width": 8, "n_blocks": 2},
    "pretraining": {"epochs": 1, "batch_size": 32},
    "protocol": "knn",
}
STUDY = Study(name="kept", baseline=RunSpec.parse(TINY), levels={"label_fraction": (0.5, 1.0)})


def run(out: Path, study: Study = STUDY) -> bytes:
    """Run a study without MLflow; return its trials' table less what differs in time."""
    options = RunOptions(
        backend="sequential",
        workers=1,
        threads=1,
        device="cpu",
        n_devices=1,
        tracking_uri="http://127.0.0.1:9",
        vault=out / "vault",
    )
    return numbers(run_study(study, options).folder)


def numbers(folder: Path) -> bytes:
    lines = (folder / "table" / "trials.csv").read_bytes().splitlines()
    return b"\n".join(sorted(line.rpartition(b",")[0] for line in lines))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, bytes]]:
    """Return the outputs of a study that ran, and its numbers."""
    out = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MELSSL_OUT", str(out))
        yield out, run(out)


@pytest.fixture
def copy(finished: tuple[Path, bytes], out: Path) -> Path:
    """Return a copy of it, as the outputs of this test."""
    shutil.copytree(finished[0], out)
    shutil.rmtree(out / "vault" / "users")
    return out


def cut(path: Path) -> None:
    """Leave the first half of a file, as a power cut may."""
    os.truncate(path, path.stat().st_size // 2)


WINGS = ("melssl", "ablations", "study", "reports")
DAMAGED = {  # a file of every sort, and whether a repair sets it aside
    "vault/stages/pretrain/*/weights.safetensors": True,
    "vault/stages/pretrain/*/curves.json": True,
    "vault/stages/embed/*/embeddings.npy": True,
    "vault/stages/adapt/*/predictions.parquet": True,
    "vault/stages/adapt/*/replicates.npz": True,
    "vault/stages/adapt/*/stage.json": True,
    "vault/pixels/*/pixels.npy": True,
    "vault/folds/*.json": True,
    "vault/audits/*.json": True,
    "vault/cohorts/*/P00000-00.jpg": True,
    "vault/work/*/state.safetensors": True,
    "vault/failures/*/*.json": True,
    "studies/kept/table/trials.csv": False,
}


def test_every_sort_of_truncated_file_is_found_set_aside_and_made_again_with_the_same_numbers(
    copy: Path, finished: tuple[Path, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["vault", "check"]) == 0
    assert "nothing damaged" in capsys.readouterr().out
    key = next((copy / "vault/stages/adapt").iterdir()).name
    work, failures = copy / "vault/work" / f"adapt-{key}", copy / "vault/failures/adapt"
    work.mkdir(parents=True)
    failures.mkdir(parents=True)
    (work / "state.safetensors").write_bytes(b"x" * 100)
    (failures / "0000.json").write_text('{"reason": "why"}')
    victims = {}
    for number, pattern in enumerate(DAMAGED):
        found = sorted(copy.glob(pattern))
        assert found, pattern
        victims[pattern] = found[number % len(found)]
        cut(victims[pattern])
    assert main(["vault", "check"]) == 1
    told = capsys.readouterr().out
    for pattern, path in victims.items():
        shown = path.parent if "stages" in pattern or "table" in pattern else path
        shown = path.parent if "pixels" in pattern or "cohorts" in pattern else shown
        assert f"damaged: {shown}" in told, pattern
    assert "vault check --repair" in told
    assert main(["vault", "check", "--repair"]) == 1  # a table is written anew by `collect`
    assert "python -m ablations collect kept" in capsys.readouterr().out
    assert len(list((copy / "vault/damaged").iterdir())) >= sum(DAMAGED.values()) - 3
    assert run(copy) == finished[1]
    assert main(["vault", "check"]) == 0


@pytest.mark.parametrize("half", [0.0, 0.5])
def test_notes_that_were_cut_short_stop_neither_status_nor_a_run(
    half: float, copy: Path, finished: tuple[Path, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    work = copy / "vault/work/pretrain-00"
    work.mkdir(parents=True)
    (work / "progress.json").write_text('{"step": 1, "total": 2, "loss": 0.5}')
    notes = [work / "progress.json", copy / "vault/estimates.jsonl"]
    notes += [p for p in (copy / "studies/kept").glob("*.json") if p.name != "study.json"]
    for path in notes:
        os.truncate(path, int(path.stat().st_size * half))
    assert main(["status"]) == 0
    assert "8 of 8 finished" in capsys.readouterr().out
    assert run(copy) == finished[1]
    os.truncate(copy / "studies/kept/study.json", int(half * 100))
    assert main(["status"]) == 2
    assert "run the study again" in capsys.readouterr().err


def test_a_changed_bit_in_a_checkpoint_never_becomes_a_number(
    copy: Path, finished: tuple[Path, bytes]
) -> None:
    vault = Vault(copy / "vault")
    for key in vault.finished("adapt"):
        shutil.rmtree(vault.folder("adapt", key))
    (victim, *_) = sorted((copy / "vault/stages/embed").glob("*/embeddings.npy"))
    content = bytearray(victim.read_bytes())
    content[-1] ^= 1
    victim.write_bytes(content)
    assert run(copy) != finished[1]
    key = victim.parent.name
    reasons = [str(vault.failure("adapt", failed)) for failed in vault.failures("adapt")]
    assert any("differs from its digest" in reason and "again" in reason for reason in reasons)
    assert not vault.has("embed", key)
    assert run(copy) == finished[1]
    assert vault.has("embed", key)


def test_pixels_that_changed_stop_a_study_before_it_trains(copy: Path) -> None:
    (pixels,) = (copy / "vault/pixels").glob("*/pixels.npy")
    content = bytearray(pixels.read_bytes())
    content[-1] ^= 1
    pixels.write_bytes(content)
    with pytest.raises(ArtifactError, match="pixels differ from their digest"):
        run(copy)


def test_gc_shows_what_no_study_needs_asks_and_leaves_what_a_process_holds(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vault, path = Vault(copy / "vault"), study_folder("kept") / "study.json"
    narrower = json.loads(path.read_text())
    narrower["levels"]["label_fraction"] = [1.0]
    path.write_text(json.dumps(narrower))
    part = vault.root / "parts" / "adapt-feed-elsewhere-1-abcdef"
    part.mkdir(parents=True, exist_ok=True)
    before = vault.finished("adapt")
    assert main(["vault", "gc", "--dry-run"]) == 0
    assert main(["vault", "gc"]) == 2  # nobody to ask
    shown = capsys.readouterr()
    assert "studies that use" in shown.out
    assert "--yes" in shown.err
    assert vault.finished("adapt") == before
    with ExitStack() as held:  # flock is of an open file: this process counts as another
        for key in before:
            held.enter_context(vault.claimed("adapt", key))
        assert main(["vault", "gc", "--yes"]) == 0
        assert vault.finished("adapt") == before
    assert "4 are held by a running process" in capsys.readouterr().out
    assert main(["vault", "gc", "--yes"]) == 0
    assert len(vault.finished("adapt")) == len(before) - 4  # two arms x two folds at one budget
    assert len(vault.finished("pretrain")) == 3
    assert not part.exists()
    assert main(["vault", "gc", "--yes"]) == 0
    assert "nothing to remove" in capsys.readouterr().out


def test_a_study_elsewhere_keeps_its_stages_as_long_as_it_exists(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vault, elsewhere = Vault(copy / "vault"), tmp_path / "elsewhere" / "study.json"
    shutil.move(copy / "studies" / "kept", elsewhere.parent)
    remember(vault, elsewhere)
    before = vault.finished("adapt")
    assert main(["vault", "gc", "--yes"]) == 0
    assert vault.finished("adapt") == before
    shutil.rmtree(elsewhere.parent)
    assert main(["vault", "gc", "--yes"]) == 0
    assert not vault.finished("adapt")
    assert "none" in capsys.readouterr().out


@pytest.fixture
def parcel(copy: Path, tmp_path: Path) -> Path:
    """Return the study in a tar file."""
    assert main(["vault", "export", "kept", str(tmp_path / "kept.tar")]) == 0
    return tmp_path / "kept.tar"


def test_a_study_moves_to_another_machine_and_goes_on_there_without_training(
    parcel: Path, tmp_path: Path, finished: tuple[Path, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there"
    monkeypatch.setenv("MELSSL_OUT", str(there))
    for _ in range(2):  # again: what is there stays
        assert main(["vault", "import", str(parcel)]) == 0
    assert load_study("kept") == STUDY
    assert numbers(study_folder("kept")) == finished[1]
    assert not list(check(Vault(there / "vault"), there / "studies"))
    times = {p: p.stat().st_mtime_ns for p in there.glob("vault/stages/*/*/stage.json")}
    assert run(there) == finished[1]
    assert times == {p: p.stat().st_mtime_ns for p in there.glob("vault/stages/*/*/stage.json")}
    narrower = STUDY.replace(levels={"label_fraction": (0.6,)}).plain()
    (study_folder("kept") / "study.json").write_text(json.dumps(narrower))
    with pytest.raises(ArtifactError, match="another study of that name"):
        unpack(parcel, Vault(there / "vault"), there / "studies")


def changed(source: Path, target: Path, change: Callable[[tarfile.TarInfo, bytes], object]) -> None:
    """Write a tar file again; ``change`` may drop a member (None) or give others in its place."""
    with tarfile.open(source) as old, tarfile.open(target, "w") as new:
        for member in old:
            opened = old.extractfile(member)
            assert opened is not None
            for one, data in change(member, opened.read()) or ():  # type: ignore[attr-defined]
                one.size = len(data) if one.isreg() else 0
                new.addfile(one, io.BytesIO(data))


def added(name: str, data: bytes = b"{}", **fields: object) -> Callable[..., object]:
    """Add a member of that name, which the manifest knows."""

    def change(member: tarfile.TarInfo, content: bytes) -> object:
        if member.name != "parcel.json":
            return [(member, content)]
        manifest = json.loads(content)
        manifest["files"][name] = hashlib.sha256(data).hexdigest()
        extra = tarfile.TarInfo(name)
        for field, value in fields.items():
            setattr(extra, field, value)
        return [(member, json.dumps(manifest).encode()), (extra, data)]

    return change


def pickled() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([{"a": print}], dtype=object), allow_pickle=True)
    return file.getvalue()


def flipped(member: tarfile.TarInfo, content: bytes) -> object:
    if member.name.endswith("embeddings.npy"):
        content = content[:-1] + bytes([content[-1] ^ 1])
    return [(member, content)]


REFUSED = {
    "a path that leaves the folder": (added("folds/../../../x.json"), "belongs into none"),
    "an absolute path": (added("/tmp/x.json"), "belongs into none"),
    "a link": (
        added("folds/x.json", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        "no plain file",
    ),
    "a hard link": (
        added("folds/x.json", type=tarfile.LNKTYPE, linkname="parcel.json"),
        "no plain",
    ),
    "a device": (added("folds/x.json", type=tarfile.CHRTYPE), "no plain file"),
    "a program": (added("folds/x.py", b"print()"), "belongs into none"),
    "a pickle": (added("folds/x.pkl"), "belongs into none"),
    "pickled objects in an array": (
        added("stages/embed/x/y.npy", pickled()),
        "no array of numbers",
    ),
    "a changed bit": (flipped, "differs from its digest"),
    "a missing file": (lambda m, c: None if m.name.endswith(".npy") else [(m, c)], "missing"),
    "a file that the manifest does not know": (
        lambda m, c: [(m, c), (tarfile.TarInfo("folds/x.json"), b"")],
        "not in its parcel.json",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_parcel_is_refused_before_anything_appears(
    what: str, parcel: Path, tmp_path: Path
) -> None:
    change, reason = REFUSED[what]
    changed(parcel, tmp_path / "bad.tar", change)
    there = tmp_path / "there"
    with pytest.raises(ArtifactError, match=reason):
        unpack(tmp_path / "bad.tar", Vault(there / "vault"), there / "studies")
    left = [path for path in there.rglob("*") if path.is_file()]
    assert not left


def test_a_parcel_cut_short_is_refused(parcel: Path, tmp_path: Path) -> None:
    cut(parcel)
    with pytest.raises(ArtifactError):
        unpack(parcel, Vault(tmp_path / "vault"), tmp_path / "studies")
    assert not list((tmp_path / "vault").rglob("*.json"))


FORBIDDEN = {"pickle", "cPickle", "dill", "shelve", "marshal", "cloudpickle"}
RUNS_CODE = {"eval", "exec", "pd.read_pickle", "yaml.load", "joblib.load"}
CALLS = {"np.load": ("allow_pickle", "False"), "torch.load": ("weights_only", "True")}


def test_nothing_that_is_read_from_disk_can_run_code() -> None:
    offences, n_loads = [], 0
    for path in sorted(p for wing in WINGS for p in (ROOT / wing).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            said = node.keywords if isinstance(node, ast.Call) else []
            words = {(word.arg, ast.unparse(word.value)) for word in said}
            bad = FORBIDDEN & {name.split(".")[0] for name in names} or called in RUNS_CODE
            if bad or (called in CALLS and CALLS[called] not in words):
                offences.append(f"{path}:{node.lineno}: {called or names}")
            n_loads += called == "np.load"
    assert n_loads >= 5
    assert not offences, "\n".join(offences)
