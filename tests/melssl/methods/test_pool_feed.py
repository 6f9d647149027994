"""PoolFeed: which images the views of a batch show, and whose."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from melssl.data.views import VIEW_PRESETS, ViewRecipe, apply_view
from melssl.frame import Frame
from melssl.methods.pool import PoolFeed
from melssl.seeding import Seed
from melssl.training.devices import Rank

PX, N = 8, 12
RANK = Rank(0, 1, torch.device("cpu"))
PLAIN = ViewRecipe(mean=(0, 0, 0), std=(1, 1, 1))
# patients of 1, 4, 2, 1 and 4 images, in no order; 3 has none in this pool
PATIENTS = np.array([1, 5, 0, 1, 2, 5, 4, 1, 2, 5, 1, 5])
ROWS = np.arange(N)[::-1] + 100  # rows of the store are other numbers than places in the pool


class Flat:
    """A store whose images have one grey each: their row, less 100."""

    frame = Frame(PX)

    def batch(self, rows: np.ndarray) -> torch.Tensor:
        grey = torch.from_numpy(rows - 100).to(torch.uint8)
        return grey[:, None, None, None].expand(-1, 3, PX, PX)


def feed(positives: str = "patient", recipe: ViewRecipe = PLAIN, n_views: int = 2) -> PoolFeed:
    return PoolFeed(Flat(), ROWS, PATIENTS, (recipe,) * n_views, Frame(PX), positives=positives)


def shown(view: torch.Tensor) -> np.ndarray:
    """Return the places whose images a view shows."""
    return N - 1 - (view[:, 0, 0, 0] * 255).round().long().numpy()


def drawn(n: int, places: np.ndarray) -> np.ndarray:
    """Return partners (n, B) of ``places`` in n batches."""
    return np.array([feed().partners(places, Seed(0).child("step", i)) for i in range(n)])


def test_a_partner_is_another_image_of_the_patient_or_the_image_itself_where_it_is_alone() -> None:
    places = np.arange(N)
    partners = drawn(50, places)
    assert (PATIENTS[partners] == PATIENTS[places]).all()
    alone = np.isin(PATIENTS, [0, 4])
    assert (partners[:, alone] == places[alone]).all()
    assert (partners[:, ~alone] != places[~alone]).all()


def test_every_other_image_of_the_patient_is_a_partner_equally_often() -> None:
    n = 3000
    partners = drawn(n, np.arange(N))
    for place in range(N):
        others = [p for p in range(N) if PATIENTS[p] == PATIENTS[place] and p != place]
        if not others:
            continue
        counts = np.array([(partners[:, place] == p).sum() for p in others])
        expected = n / len(others)
        spread = np.sqrt(n * (1 / len(others)) * (1 - 1 / len(others)))
        assert (np.abs(counts - expected) <= 4.5 * spread).all()
        assert counts.sum() == n


def test_partners_are_drawn_one_by_one_and_anew_for_each_batch() -> None:
    first, again, next_batch = (
        feed().partners(np.arange(N), Seed(seed).child("partner")) for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, next_batch)
    # two images of one patient of four take steps of their own round its images
    partners = drawn(400, np.flatnonzero(PATIENTS == 1))
    own = np.flatnonzero(PATIENTS == 1)
    steps = (np.searchsorted(own, partners) - np.arange(4)) % 4
    assert abs(np.corrcoef(steps[:, 0], steps[:, 1])[0, 1]) < 0.2


def test_every_view_of_odd_index_shows_the_partner_and_the_others_the_image_itself() -> None:
    places, draw = np.array([3, 2, 8, 9, 11]), Seed(7)
    batch = feed(n_views=5).batch(places, draw, RANK)
    partners = feed().partners(places, draw.child("partner"))
    for index, view in enumerate(batch.views):
        assert shown(view).tolist() == (partners if index % 2 else places).tolist()
    assert batch.place.tolist() == places.tolist()
    assert batch.patient.tolist() == PATIENTS[places].tolist()


@pytest.mark.parametrize("share", [slice(0, 3), slice(3, 6)])
def test_two_processes_show_the_partners_that_one_would_have_shown(share: slice) -> None:
    places, draw = np.array([3, 2, 8, 9, 11, 0]), Seed(7)
    recipe = VIEW_PRESETS["medical"]
    whole = feed(recipe=recipe).batch(places, draw, RANK)
    rank = Rank(0 if share.start == 0 else 1, 2, torch.device("cpu"))
    part = feed(recipe=recipe).batch(places, draw, rank)
    for mine, all_of_it in zip(part.views, whole.views, strict=True):
        assert torch.equal(mine, all_of_it[share])


def test_positives_of_the_same_image_change_nothing() -> None:
    """The views are those of one image, drawn as before the option came."""
    places, draw, recipe = np.array([3, 2, 8, 9]), Seed(7), VIEW_PRESETS["medical"]
    batch = feed("image", recipe, 3).batch(places, draw, RANK)
    for index, view in enumerate(batch.views):
        rng = draw.child("view", index).torch()
        params = recipe.sample(len(places), PX, rng, size=PX)
        assert torch.equal(view, apply_view(Flat().batch(ROWS[places]), params))
    default = PoolFeed(Flat(), ROWS, PATIENTS, (recipe,) * 3, Frame(PX))
    assert all(map(torch.equal, default.batch(places, draw, RANK).views, batch.views))


def test_patient_positives_change_the_image_shown_and_no_other_draw() -> None:
    places, draw, recipe = np.arange(N), Seed(7), VIEW_PRESETS["medical"]
    images, patients = (feed(kind, recipe).batch(places, draw, RANK) for kind in
                        ("image", "patient"))  # fmt: skip
    assert torch.equal(images.views[0], patients.views[0])
    alone = torch.from_numpy(np.isin(PATIENTS, [0, 4]))
    assert torch.equal(images.views[1][alone], patients.views[1][alone])
    assert not torch.equal(images.views[1], patients.views[1])
    assert images.rng.get_state().equal(patients.rng.get_state())


def test_a_pool_without_a_second_image_of_anybody_has_no_partners() -> None:
    lonely = replace(feed(), patients=np.arange(N))
    places = np.array([4, 0, 11])
    assert lonely.partners(places, Seed(0)).tolist() == places.tolist()


def test_a_look_at_the_pool_shows_images_of_it_unchanged_and_none_twice() -> None:
    images = feed(recipe=VIEW_PRESETS["medical"]).sample(5, Seed(0))
    assert images.shape == (5, 3, PX, PX)
    places = shown(images)
    assert len(set(places)) == 5
    torch.testing.assert_close(images, Flat().batch(ROWS[places]) / 255)
    assert torch.equal(images, feed().sample(5, Seed(0)))
    assert sorted(shown(feed().sample(5, Seed(1)))) != sorted(places)


def test_a_look_at_more_than_there_is_shows_everything_at_the_studys_size() -> None:
    small = replace(feed(), frame=Frame(4))
    images = small.sample(100, Seed(0))
    assert images.shape == (N, 3, 4, 4)
    assert sorted(shown(images)) == list(range(N))
    assert images.min() >= 0
    assert images.max() <= 1
