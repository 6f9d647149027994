"""Audit: what is linked by which evidence, what is merged, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import melssl.audit.evidence
from melssl.audit.audit import Audit, AuditSpec, audit, audit_key, check_sides
from melssl.audit.fingerprints import Fingerprints
from melssl.audit.near import NearPair
from melssl.data.cohort import Cohort, SamePicture
from melssl.errors import ArtifactError, CohortError, PatientOverlapError, SpecError

Made = Callable[..., Cohort]  # the fixture of conftest.py

BYTES = AuditSpec(images="bytes")
OFF = AuditSpec(images="off")


def _kinds(found: Audit) -> list[list[str]]:
    return [[link.kind for link in group.links] for group in found.groups]


def test_different_pictures_of_different_patients_are_left_as_they_are(made: Made) -> None:
    found = audit(made(("a", "P1", 0, 1), ("b", "P1", 0, 2), ("c", "P2", 1, 3)), BYTES)
    assert found.units == found.external_units == {}
    assert found.groups == found.redundant == ()
    assert found.numbers.samples == 3
    assert found.numbers.units == 2
    assert found.lines()[-1] == "audit: no two patients are linked"


def test_byte_identical_files_make_two_patients_one(made: Made) -> None:
    rows = [("a", "P2", 0, 1), ("b", "P1", 0, 1), ("c", "P3", 1, 3)]
    found = audit(made(*rows), BYTES)
    assert found.units == {"P1": "P1+P2", "P2": "P1+P2"}
    assert found.numbers.pairs["bytes"].across == 1
    assert [member.sample_id for member in found.groups[0].members] == ["a", "b"]


def test_links_hold_through_a_third_patient_and_name_all_three(made: Made) -> None:
    rows = [("a", "P1", 0, 1), ("b", "P2", 0, 1), ("c", "P2", 0, 2), ("d", "P3", 0, 2)]
    found = audit(made(*rows), BYTES)
    assert set(found.units.values()) == {"P1+P2+P3"}
    assert len(found.groups) == 1
    assert found.groups[0].patients == ("P1", "P2", "P3")


def test_equal_size_alone_links_nothing(made: Made) -> None:
    cohort = made(("a", "P1", 0, 1), ("b", "P2", 0, 2))
    (cohort.root / "a.png").write_bytes(b"x" * 50)
    (cohort.root / "b.png").write_bytes(b"y" * 50)
    found = audit(cohort, BYTES)
    assert found.groups == ()
    assert found.numbers.files_read == 2


def test_a_lesion_under_two_patients_makes_them_one_without_any_image(made: Made) -> None:
    rows = [("a", "P1", 0, 1), ("b", "P2", 0, 2), ("c", "P3", 0, 3), ("d", "P4", 0, 4)]
    found = audit(made(*rows, lesions=["L1", "L1", None, None]), OFF)
    assert found.units == {"P1": "P1+P2", "P2": "P1+P2"}
    assert _kinds(found) == [["lesion"]]
    assert found.numbers.files_read == 0


def test_a_declared_pair_makes_two_patients_one_and_names_its_list(made: Made) -> None:
    declared = (SamePicture(first="a", second="b", by="duplicates.csv"),)
    found = audit(made(("a", "P1", 0, 1), ("b", "P2", 0, 2), declared=declared), OFF)
    assert set(found.units) == {"P1", "P2"}
    assert found.groups[0].links[0].by == "duplicates.csv"


def test_a_sample_left_out_still_links_its_two_partners(made: Made) -> None:
    gone = [SamePicture(first=name, second="gone", by="list") for name in ("a", "b")]
    found = audit(made(("a", "P1", 0, 1), ("b", "P2", 0, 2), declared=tuple(gone)), OFF)
    assert set(found.units.values()) == {"P1+P2"}
    assert found.numbers.declared["list"].one == 2


def test_lists_are_told_by_what_became_of_their_pairs(made: Made) -> None:
    pairs = [("a", "b", "mixed"), ("a", "x", "mixed"), ("x", "y", "mixed"), ("a", "z", "left out")]
    declared = tuple(SamePicture(first=a, second=b, by=by) for a, b, by in pairs)
    found = audit(made(("a", "P1", 0, 1), ("b", "P1", 0, 2), declared=declared), OFF)
    lines = "\n".join(found.lines())
    assert (
        "3 pairs declared by mixed: 1 with one side left out, 1 with both in, 1 with nei" in lines
    )
    assert "1 pair declared by left out: one side of each is left out" in lines
    assert found.numbers.redundant == 1


def test_a_picture_repeated_within_one_patient_is_counted_and_merges_nothing(made: Made) -> None:
    found = audit(made(("a", "P1", 0, 1), ("b", "P1", 0, 1), ("c", "P1", 0, 1)), BYTES)
    assert found.groups == ()
    assert found.numbers.pairs["bytes"].total == 3
    assert found.numbers.redundant == 2
    assert len(found.redundant) == 2


def _near(monkeypatch: pytest.MonkeyPatch, *pairs: NearPair) -> None:
    def fingerprints(paths: list[Path], **_: object) -> Fingerprints:
        blank = np.zeros((len(paths), 1), dtype=np.uint8)
        names = np.array([path.stem for path in paths], dtype=object)
        return Fingerprints(sha256=names, coarse=blank, fine=blank, faults={0: "truncated"})

    monkeypatch.setattr(melssl.audit.evidence, "fingerprints", fingerprints)
    monkeypatch.setattr(melssl.audit.evidence, "near_pairs", lambda *_, **__: list(pairs))


def test_images_that_look_alike_make_two_patients_one(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    _near(monkeypatch, NearPair(first=0, second=2, similarity=0.97, orientation="turned 90"))
    rows = [("a", "P1", 0, 1), ("b", "P2", 0, 2), ("c", "P3", 0, 3)]
    found = audit(made(*rows), AuditSpec())
    link = found.groups[0].links[0]
    assert set(found.units) == {"P1", "P3"}
    assert (link.kind, link.similarity, link.orientation) == ("near", 0.97, "turned 90")
    assert found.faults == {"a": "truncated"}
    assert found.lines()[-1] == "audit: 1 file could not be read"


def test_rows_of_absent_files_do_not_shift_the_pairs_of_the_others(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    _near(monkeypatch, NearPair(first=0, second=1, similarity=0.97, orientation=""))
    cohort = made(*((n, f"P{n}", 0, i) for i, n in enumerate("abcd")), has_images=False)
    (cohort.root / "a.png").unlink()
    (cohort.root / "c.png").unlink()
    found = audit(cohort, AuditSpec())
    assert set(found.units) == {"Pb", "Pd"}
    assert found.numbers.files_absent == 2
    assert set(found.faults) == {"b"}


def test_a_table_without_any_image_is_audited_by_ids(made: Made) -> None:
    cohort = made(("a", "P1", 0, 1), ("b", "P2", 0, 1), lesions=["L", "L"], has_images=False)
    for name in "ab":
        (cohort.root / f"{name}.png").unlink()
    for spec in (AuditSpec(), BYTES):
        found = audit(cohort, spec)
        assert set(found.units) == {"P1", "P2"}
        assert found.numbers.files_absent == 2
        assert "2 files are not there" in found.lines()[0]


def test_one_picture_with_two_labels_is_told_and_stops_nothing(made: Made) -> None:
    rows = [("a", "P1", 0, 1), ("b", "P1", 1, 1), ("c", "P2", -1, 2), ("d", "P2", 1, 2)]
    found = audit(made(*rows), BYTES)
    assert [(link.first.label, link.second.label) for link in found.conflicts] == [
        ("benign", "melanoma")
    ]
    assert found.units == {}
    assert "audit: LABEL CONFLICT: 1 pair of one picture with two labels" in found.lines()
    check_sides(found, {"P1"}, {"P2"})


def test_two_labels_of_one_lesion_are_no_conflict_of_one_picture(made: Made) -> None:
    rows = [("a", "P1", 0, 1), ("b", "P2", 1, 2)]
    assert audit(made(*rows, lesions=["L", "L"]), OFF).conflicts == ()


def test_a_patient_or_a_picture_in_two_official_splits_straddles(made: Made) -> None:
    rows = [
        *[("a", "P1", 0, 1, "train"), ("b", "P1", 0, 2, "test"), ("c", "P2", 0, 3, "train")],
        *[("d", "P3", 0, 3, "val"), ("e", "P4", 0, 4, "train"), ("f", "P4", 0, 5, None)],
    ]
    found = audit(made(*rows), BYTES)
    assert [group.splits for group in found.straddles] == [("test", "train"), ("train", "val")]
    assert _kinds(found) == [["patient"], ["bytes"]]
    assert found.units == {"P2": "P2+P3", "P3": "P2+P3"}


def test_an_external_image_of_a_patient_takes_that_patients_name(made: Made) -> None:
    cohort = made(("a", "P1", 0, 1), ("b", "P2", 0, 1), ("c", "P3", 1, 3))
    rows = [("x", "P3", -1, 1), ("y", "Q", -1, 9), ("z", "R", -1, 9), ("w", "S", -1, 8)]
    found = audit(cohort, BYTES, made(*rows, name="other"))
    assert found.units == {"P1": "P1+P2", "P2": "P1+P2"}
    assert found.external_units == {
        "P3": "P1+P2",  # another patient than the cohort's P3: ids of two sources do not mean one
        **{"Q": "external:Q+R", "R": "external:Q+R", "S": "external:S"},
    }
    assert [group.external for group in found.straddles] == [("P3",)]
    lines = "\n".join(found.lines())
    for part in (
        "2 patients are merged into 1 (",
        "2 external ones are 1",
        "1 group stands in both",
    ):
        assert part in lines


def test_two_patients_that_only_an_external_image_links_are_one(made: Made) -> None:
    declared = (SamePicture(first="a", second="b", by="list"),)
    cohort = made(("a", "P1", 0, 1), ("b", "P1", 0, 2), ("c", "P2", 0, 3), declared=declared)
    others = made(("x", "Q", -1, 1), ("y", "Q", -1, 3), name="other")
    assert set(audit(cohort, BYTES, others).units) == {"P1", "P2"}


def test_what_the_external_source_declares_reaches_the_tested_patient(made: Made) -> None:
    declared = (SamePicture(first="x", second="y", by="their list"),)
    cohort = made(("a", "P1", 0, 1), ("x", "P2", 1, 2))
    rows = [("x", "Q", -1, 1), ("y", "R", -1, 9)]
    found = audit(cohort, BYTES, made(*rows, name="other", declared=declared))
    assert found.external_units == {"Q": "P1", "R": "P1"}


def test_one_id_in_two_cohorts_of_one_source_is_one_patient(made: Made) -> None:
    cohort = made(("a", "P1", 0, 1), ("b", "P2", 1, 2))
    others = made(("x", "P2", -1, 3), ("y", "P5", -1, 4))
    found = audit(cohort, BYTES, others)
    assert found.external_units == {"P2": "P2", "P5": "external:P5"}
    assert found.straddles[0].patients == found.straddles[0].external == ("P2",)
    assert found.units == {}


def test_labels_of_an_external_cohort_with_other_classes_are_not_compared(made: Made) -> None:
    cohort, rows = made(("a", "P1", 0, 1), ("b", "P2", 1, 2)), [("x", "Q", 1, 1), ("y", "R", 0, 4)]
    assert len(audit(cohort, BYTES, made(*rows, name="o1")).conflicts) == 1
    others = made(*rows, name="o2", classes=("nevus", "other"))
    assert audit(cohort, BYTES, others).conflicts == ()


def test_without_merging_a_group_on_both_sides_is_refused_by_name(made: Made) -> None:
    cohort = made(("a", "P1", 0, 1), ("b", "P2", 0, 1), ("c", "P3", 1, 3))
    found = audit(cohort, BYTES.replace(merge=False))
    assert found.units == {}
    check_sides(found, {"P1", "P2"}, {"P3"})
    with pytest.raises(PatientOverlapError, match=r"1 group.*\n  - group 1: P1 \+ P2 \(bytes\)"):
        check_sides(found, {"P1", "P3"}, {"P2"})
    with pytest.raises(PatientOverlapError):
        check_sides(found, {"P3"}, {"P2"}, pool={"P1"})


def test_after_merging_the_new_names_pass_and_the_old_ones_do_not(made: Made) -> None:
    cohort = made(("a", "P1", 0, 1), ("b", "P2", 0, 1), ("c", "P3", 1, 3))
    found = audit(cohort, BYTES)
    patients = set(cohort.merged(found.units, "audit").frame["patient_id"])
    assert patients == {"P1+P2", "P3"}
    check_sides(found, {"P3"}, {"P1+P2"})
    with pytest.raises(PatientOverlapError):
        check_sides(found, {"P1", "P3"}, {"P2"})


def test_without_merging_no_external_image_of_a_tested_patient_passes_as_a_stranger(
    made: Made,
) -> None:
    cohort = made(("a", "P1", 0, 1), ("b", "P2", 1, 2))
    found = audit(cohort, BYTES.replace(merge=False), made(("x", "Q", -1, 1), name="other"))
    pool = {found.external_units["Q"]}
    assert pool == {"P1"}
    with pytest.raises(PatientOverlapError, match="external:Q"):
        check_sides(found, {"P2"}, {"P1"}, pool=pool)


def test_a_patient_that_bears_a_merged_name_is_refused(made: Made) -> None:
    rows = [("a", "P1", 0, 1), ("b", "P2", 0, 1), ("c", "P1+P2", 0, 3)]
    with pytest.raises(CohortError, match="'P1\\+P2' bears the name of a merged one"):
        audit(made(*rows), BYTES)


def test_the_order_of_rows_changes_nothing(made: Made) -> None:
    rows = [("a", "P1", 0, 1), ("b", "P2", 1, 1), ("c", "P3", 0, 2), ("d", "P0", 0, 2)]
    one, other = audit(made(*rows), BYTES), audit(made(*rows[::-1]), BYTES)
    assert (one.units, one.groups) == (other.units, other.groups)


def test_an_audit_comes_back_from_its_file(made: Made, tmp_path: Path) -> None:
    rows = [("a", "P1", 0, 1, "train"), ("b", "P2", 1, 1, "test"), ("c", "P2", 1, 1, "test")]
    declared = (SamePicture(first="a", second="gone", by="list"),)
    found = audit(made(*rows, declared=declared), BYTES, made(("x", "Q", 1, 1), name="other"))
    assert found.groups
    assert found.redundant
    found.save(tmp_path / "audit.json")
    assert Audit.load(tmp_path / "audit.json") == found


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format": 0}', '{"format": 1}'])
def test_a_file_that_is_no_audit_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "audit.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"audit\.json: not an audit .*; make it anew"):
        Audit.load(tmp_path / "audit.json")


def test_the_key_covers_what_no_digest_of_a_cohort_does(made: Made) -> None:
    rows = (("a", "P1", 0, 1, "train"), ("b", "P2", 1, 2, "test"))

    def key(cohort: Cohort, spec: AuditSpec = BYTES) -> str:
        return audit_key(cohort, spec)

    plain = made(*rows)
    pair = (SamePicture(first="a", second="b", by="list"),)
    other_split = made(("a", "P1", 0, 1, "train"), ("b", "P2", 1, 2, "train"))
    others = [made(*rows, lesions=["L", "L"]), made(*rows, declared=pair), other_split]
    assert {cohort.digest for cohort in others} == {plain.digest}
    keys = [*(key(cohort) for cohort in others), key(plain), key(plain, OFF)]
    assert len(set(keys)) == 5
    assert key(made(*rows)) == key(plain) != audit_key(plain, BYTES, plain)


@pytest.mark.parametrize("data", [{"images": "some"}, {"similarity": 1.1}, {"similarit": 0.9}])
def test_settings_of_an_audit_are_checked(data: dict[str, object]) -> None:
    with pytest.raises(SpecError):
        AuditSpec.parse(data)
