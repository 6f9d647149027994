"""Camera probe: can a linear classifier tell from an embedding which camera took the image?"""

from __future__ import annotations

import numpy as np

from melssl.evaluation.curves import midranks
from melssl.evaluation.predictions import UNKNOWN_CAMERA
from melssl.seeding import Seed

LEAST = 5  # patients on either side, for a camera to be asked for
MOST_CAMERAS = 12  # those of most patients: the cost grows with their number
MOST_IMAGES = 4000  # to fit on; all images of the other side are scored
STRENGTH = 10.0  # prior variance of a logit, as in the linear probe


def camera_probe(
    embeddings: np.ndarray, camera: np.ndarray, patient: np.ndarray, seed: Seed
) -> dict[str, float]:
    """Return how well the camera (N,) is told from embeddings (N, D) of other patients (N,).

    Patients are halved by a hashed order; a multinomial logistic regression on the standardised
    embeddings of one half is scored on the other, both ways. ``camera_auc`` is the mean over
    cameras of ROC AUC against the rest (chance .5), ``camera_accuracy`` the mean recall (chance
    1 / ``n_cameras``). Asked for are the twelve cameras of most patients, of those with five
    patients in each half; images of others, and of an unknown one, are left out. Empty where
    fewer than two remain.
    """
    late = _late_half(patient, seed)
    names = _judged(camera, patient, late)
    if len(names) < 2:
        return {}
    rows = np.flatnonzero(np.isin(camera, names))
    label = np.searchsorted(names, camera[rows])
    scores = []
    for side in (False, True):
        mine = late[rows] == side
        fit = _balanced(label, patient[rows], mine, seed.child("fit", int(side)))
        probability = _probability(embeddings[rows], label, fit, ~mine)
        scores.append(_score(probability, label[~mine]))
    auc, accuracy = np.mean(scores, axis=0)
    return {
        "camera_auc": float(auc),
        "camera_accuracy": float(accuracy),
        "n_cameras": float(len(names)),
    }


def _late_half(patient: np.ndarray, seed: Seed) -> np.ndarray:
    """Return whether each row's patient stands in the second half of a hashed order, (N,) bool."""
    names, place = np.unique(patient, return_inverse=True)
    order = np.argsort(seed.child("halves").ranks(list(names)), kind="stable")
    late = np.zeros(len(names), dtype=bool)
    late[order[len(names) // 2 :]] = True
    return late[place]


def _judged(camera: np.ndarray, patient: np.ndarray, late: np.ndarray) -> np.ndarray:
    """Return the names of the cameras to tell apart, sorted."""
    found = []
    for name in np.unique(camera[camera != UNKNOWN_CAMERA]):
        mine = camera == name
        sides = [len(np.unique(patient[mine & side])) for side in (late, ~late)]
        if min(sides) >= LEAST:
            found.append((-sum(sides), name))
    return np.array(sorted(name for _, name in sorted(found)[:MOST_CAMERAS]), dtype=object)


def _balanced(label: np.ndarray, patient: np.ndarray, mine: np.ndarray, seed: Seed) -> np.ndarray:
    """Choose rows to fit on: of each camera whole patients in a hashed order up to its share."""
    names, place = np.unique(patient, return_inverse=True)
    rank = seed.ranks(list(names))[place]
    share = MOST_IMAGES // (int(label.max()) + 1)
    chosen = []
    for k in np.unique(label):
        rows = np.flatnonzero(mine & (label == k))
        _, group, count = np.unique(rank[rows], return_inverse=True, return_counts=True)
        before = np.cumsum(count) - count
        chosen.append(rows[before[group] < share])
    return np.concatenate(chosen)


def _probability(
    embeddings: np.ndarray, label: np.ndarray, fit: np.ndarray, scored: np.ndarray
) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression  # half a second that planning is spared

    known = embeddings[fit].astype(np.float64)
    mean, deviation = known.mean(axis=0), known.std(axis=0)
    deviation[deviation < 1e-6 * max(deviation.max(), 1e-12)] = np.inf
    strength = STRENGTH / embeddings.shape[1]
    model = LogisticRegression(C=strength, max_iter=2000, class_weight="balanced")
    model.fit((known - mean) / deviation, label[fit])
    probability: np.ndarray = model.predict_proba((embeddings[scored] - mean) / deviation)
    return probability


def _score(probability: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """Return macro one-against-rest ROC AUC and mean recall."""
    areas, recalls = [], []
    called = probability.argmax(axis=1)
    for k in range(probability.shape[1]):
        mine = label == k
        n, m = int(mine.sum()), int((~mine).sum())
        ranks = midranks(probability[:, k])[mine]
        areas.append((ranks.sum() - n * (n + 1) / 2) / (n * m))
        recalls.append((called[mine] == k).mean())
    return float(np.mean(areas)), float(np.mean(recalls))
