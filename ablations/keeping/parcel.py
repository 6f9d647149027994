"""Parcel: a study in one tar file, and out of it again; nothing appears before all is verified.

parcel.json                      what is inside, each file with its SHA-256
study/study.json, study/table/   the description and the table
study/unseen/                    which other cohorts its trials were asked about
stages/<kind>/<key>/             finished stages, and what trials said of other cohorts
folds/, audits/                  what the keys rest on; pixels and images stay where they are
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np

from ablations.design import Study
from ablations.keeping.check import TABLE
from ablations.plan import Place, Plan
from ablations.status import STUDY
from ablations.unseen.asked import FOLDER as UNSEEN
from ablations.unseen.asked import answered, known_unseen, remember_unseen
from ablations.vault import RECORD, Vault
from melssl.errors import ArtifactError, MelsslError
from melssl.files import own_name, part_of, publish, sha256, write_atomically
from melssl.kept import files_of
from melssl.settings import Json, Settings, digest
from melssl.stages import Kind

MANIFEST, FORMAT = "parcel.json", 1
MANIFEST_BYTES = 256 * 2**20
BLOCK = 2**20
SUFFIXES = {".json", ".csv", ".txt", ".parquet", ".npy", ".npz", ".safetensors"}  # none is code
NOWHERE: Mapping[str, Path] = {}
FOLDERS = {"study": (2, 3), "stages": (4, 4), "folds": (2, 2), "audits": (2, 2)}  # how deep


class Parcel(Settings):
    """What a tar file holds; ``files`` maps names to SHA-256."""

    format: int = FORMAT
    study: str
    study_key: str
    cohort: str
    cohort_digest: str
    stages: tuple[tuple[Kind, str], ...]
    files: dict[str, str]

    @property
    def unseen(self) -> set[str]:
        """Names of the other cohorts that the study was asked about."""
        paths = [PurePosixPath(name) for name in self.files]
        return {path.stem for path in paths if path.parts[:2] == ("study", UNSEEN)}


def export(plan: Plan, vault: Vault, study: Path, target: Path) -> Parcel:
    """Write the finished stages of a study, its description and its table to ``target``.

    Raises:
        ArtifactError: a stage is damaged, or the file cannot be written.

    """
    stages = _finished(plan, vault)
    files = dict(_files(plan, stages, vault, study))
    cohort = plan.preparations.of(plan.study.baseline).cohort
    parcel = Parcel(
        study=plan.study.name,
        study_key=plan.study.key,
        cohort=cohort.name,
        cohort_digest=cohort.digest,
        stages=stages,
        files={name: sha256(path) for name, path in files.items()},
    )
    part = part_of(target)
    try:
        with tarfile.open(part, "x") as tar:
            _add(tar, MANIFEST, parcel.model_dump_json(indent=1).encode())
            for name, path in files.items():
                tar.add(path, name, recursive=False, filter=_anonymous)
        publish(part, target)
    except OSError as error:
        raise ArtifactError(f"{target}: cannot be written ({error.strerror})") from None
    finally:
        part.unlink(missing_ok=True)
    return parcel


def unpack(
    source: Path,
    vault: Vault,
    studies: Path,
    data_root: Path | None = None,
    unseen_roots: Mapping[str, Path] = NOWHERE,
) -> Parcel:
    """Take a study out of ``source`` into the vault and the studies' folder.

    What is there already stays. ``data_root`` says where the cohort's files lie here,
    ``unseen_roots`` where those of unseen cohorts do, by name. An unseen cohort whose files are
    not here is left out: its predictions are in the vault, and nothing here can be told by them.

    Raises:
        ArtifactError: the file is damaged, holds what a parcel may not, or another study of that
            name is here.

    """
    part = vault.root / "parts" / f"parcel-{own_name()}"
    try:
        part.mkdir(parents=True)
        try:
            parcel = _verified(source, part)
            _publish(parcel, part, vault, studies, data_root, unseen_roots)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except (OSError, tarfile.TarError) as error:
        raise ArtifactError(f"{source}: cannot be taken in ({error})") from None
    return parcel


def _finished(plan: Plan, vault: Vault) -> tuple[Place, ...]:
    stages = tuple(place for place in plan.stages if place in plan.done)
    return stages + tuple(answered(set(stages), vault))


def _files(
    plan: Plan, stages: Iterable[Place], vault: Vault, study: Path
) -> Iterator[tuple[str, Path]]:
    yield f"study/{STUDY}", study / STUDY
    for folder, names in ((TABLE, "[!.]*"), (UNSEEN, "[!.]*.json")):
        for path in sorted((study / folder).glob(names)):
            yield f"study/{folder}/{path.name}", path
    for kind, key in stages:
        whole = vault.whole(kind, key)
        artifacts = vault.record(kind, key)["artifacts"]
        assert isinstance(artifacts, dict)
        for name in (*artifacts, RECORD):
            yield f"stages/{kind}/{key}/{name}", whole / name
    root, found = vault.root, set[Path]()
    for base in plan.bases:
        found |= set(files_of(plan.preparations.of(base), base.folds, root))
    yield from ((str(path.relative_to(root)), path) for path in sorted(found))


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o644
    return member


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _verified(source: Path, part: Path) -> Parcel:
    """Write the members below ``part``, each checked; then compare what belongs together."""
    with tarfile.open(source, "r:") as tar:
        parcel = _manifest(tar, source)
        left = dict(parcel.files)
        for member in tar:
            if member.name == MANIFEST and member.offset == 0:
                continue
            if not member.isreg() or member.issparse():
                raise ArtifactError(
                    f"{source}: {member.name} is no plain file; a parcel has others"
                )
            expected = left.pop(_allowed(member.name), None)
            if expected is None:
                raise ArtifactError(f"{source}: {member.name} is not in its {MANIFEST}")
            opened = tar.extractfile(member)
            assert opened is not None
            if _copied(opened, part / member.name) != expected:
                raise ArtifactError(f"{source}: {member.name} differs from its digest")
            _refuse_code(part / member.name)
    if left:
        raise ArtifactError(
            f"{source}: {min(left)} and {len(left) - 1} more are missing; cut short?"
        )
    for kind, key in parcel.stages:
        _refuse_false(kind, key, part / "stages" / kind / key, parcel)
    return parcel


def _manifest(tar: tarfile.TarFile, source: Path) -> Parcel:
    first = tar.next()
    if first is None or first.name != MANIFEST or not first.isreg():
        raise ArtifactError(f"{source}: no parcel; its first file is not {MANIFEST}")
    opened = tar.extractfile(first)
    assert opened is not None
    try:
        parcel = Parcel.parse(json.loads(opened.read(MANIFEST_BYTES)))
    except (ValueError, MelsslError) as error:
        raise ArtifactError(f"{source}: {MANIFEST} cannot be read ({error})") from None
    if parcel.format != FORMAT:
        raise ArtifactError(f"{source}: expected format {FORMAT}, got {parcel.format}")
    return parcel


def _allowed(name: str) -> str:
    """Return a member's name if it may be in a parcel."""
    path = PurePosixPath(name)
    parts = path.parts
    least, most = FOLDERS.get(parts[0] if parts else "", (0, -1))
    plain = str(path) == name and not any(p.startswith(".") or "\\" in p for p in parts)
    if not plain or not least <= len(parts) <= most or path.suffix not in SUFFIXES:
        raise ArtifactError(
            f"the parcel holds {name!r}, which belongs into none; nothing was taken"
        )
    return name


def _copied(opened: IO[bytes], path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    state = hashlib.sha256()
    with path.open("xb") as file:
        while block := opened.read(BLOCK):
            state.update(block)
            file.write(block)
    return state.hexdigest()


def _refuse_code(path: Path) -> None:
    """Refuse arrays of Python objects: to read them is to run what they say."""
    try:
        if path.suffix == ".npy":
            np.load(path, mmap_mode="r", allow_pickle=False)
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                for name in file.files:
                    file[name]
    except (ValueError, OSError, EOFError) as error:
        raise ArtifactError(f"{path.name}: no array of numbers ({error})") from None


def _refuse_false(kind: Kind, key: str, folder: Path, parcel: Parcel) -> None:
    """Refuse a stage whose record is another's, or names other files than there are."""
    place = f"stages/{kind}/{key}"
    try:
        record: dict[str, Json] = json.loads((folder / RECORD).read_text())
        same = (record["kind"], digest(record["payload"])) == (kind, key)
        named = {f"{place}/{name}": value for name, value in dict(record["artifacts"]).items()}  # type: ignore[arg-type]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{place}/{RECORD}: cannot be read ({error!r})") from None
    there = {name: value for name, value in parcel.files.items() if name.startswith(f"{place}/")}
    there.pop(f"{place}/{RECORD}", None)
    if not same or named != there:
        raise ArtifactError(f"{place}: its record is of another stage, or of other files")


def _publish(
    parcel: Parcel,
    part: Path,
    vault: Vault,
    studies: Path,
    data_root: Path | None,
    unseen_roots: Mapping[str, Path],
) -> None:
    study = Study.parse(json.loads((part / "study" / STUDY).read_text()))
    if data_root is not None:
        cohort = study.baseline.cohort.replace(root=data_root.resolve())
        study = study.replace(baseline=study.baseline.replace(cohort=cohort))
    folder = studies / study.name
    if (study.name, study.key) != (parcel.study, parcel.study_key):
        raise ArtifactError(f"{STUDY} is of another study than {MANIFEST} says; nothing was taken")
    _refuse_other(folder, study)
    if unknown := sorted(set(unseen_roots) - parcel.unseen):
        known = ", ".join(sorted(parcel.unseen)) or "none"
        raise ArtifactError(f"its unseen cohorts: expected {known}, got {unknown[0]!r}")
    for path in (*part.glob("folds/*"), *part.glob("audits/*")):
        place = vault.root / path.parent.name / path.name
        if not place.exists():
            write_atomically(_made(place), path.read_bytes())
    for kind, key in parcel.stages:
        with vault.claimed(kind, key):
            if not vault.has(kind, key):
                vault.publish(part / "stages" / kind / key, kind, key)
    for path in sorted((part / "study" / TABLE).glob("*"), key=lambda p: p.suffix == ".json"):
        write_atomically(_made(folder / TABLE / path.name), path.read_bytes())
    _publish_unseen(part / "study", folder, unseen_roots)
    write_atomically(_made(folder / STUDY), json.dumps(study.plain(), indent=1).encode())


def _publish_unseen(part: Path, folder: Path, roots: Mapping[str, Path]) -> None:
    """Leave in the study's folder which unseen cohorts it knows, of those whose files are here."""
    kept = {unseen.name for unseen in known_unseen(folder)} - set(roots)
    for unseen in known_unseen(part):
        root = roots.get(unseen.name, unseen.cohort.root)
        if unseen.name not in kept and (root is None or root.exists()):
            here = None if root is None else root.resolve()
            remember_unseen(folder, unseen.replace(cohort=unseen.cohort.replace(root=here)))


def _refuse_other(folder: Path, study: Study) -> None:
    if (folder / STUDY).exists():
        here = Study.parse(json.loads((folder / STUDY).read_text()))
        if here.key != study.key:
            raise ArtifactError(
                f"{folder} holds another study of that name; rename that folder first, and its"
                f" name in {STUDY}"
            )


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
