"""The parts of self-distillation equal their formulas, written out."""

import copy
import math

import pytest
import torch

from melssl.methods.distillation import Centre, PrototypeHead, cross_entropy, warmed


def softmax(scores: list[float], temperature: float) -> list[float]:
    top = max(scores)
    powers = [math.exp((score - top) / temperature) for score in scores]
    return [power / sum(powers) for power in powers]


def test_cross_entropy_is_that_of_the_students_softmax_under_the_teachers() -> None:
    torch.manual_seed(0)
    teacher, student = torch.randn(2, 5, 7, dtype=torch.float64)
    got = cross_entropy(teacher, student, teacher_temperature=0.04, student_temperature=0.1)
    for t, s, value in zip(teacher.tolist(), student.tolist(), got.tolist(), strict=True):
        aim, said = softmax(t, 0.04), softmax(s, 0.1)
        assert value == pytest.approx(
            -sum(a * math.log(b) for a, b in zip(aim, said, strict=True)), rel=1e-12
        )


def test_the_teacher_gets_no_gradient() -> None:
    teacher, student = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    loss = cross_entropy(teacher, student, teacher_temperature=0.1, student_temperature=0.1)
    loss.sum().backward()
    assert teacher.grad is None
    assert student.grad is not None


def test_at_a_temperature_of_a_two_hundredth_everything_is_finite() -> None:
    student = torch.tensor([[1.0, -1.0, 0.0]], requires_grad=True)
    loss = cross_entropy(
        torch.tensor([[-1.0, 1.0, 0.0]]),
        student,
        teacher_temperature=0.005,
        student_temperature=0.005,
    )
    loss.sum().backward()
    assert loss.item() == pytest.approx(400)
    assert torch.isfinite(student.grad).all()


def test_scores_are_cosines_in_full_precision_whatever_the_length_of_prototypes() -> None:
    torch.manual_seed(0)
    head = PrototypeHead(8, 16, 4, 5)
    features = torch.randn(3, 2, 8)
    scores = head(features)
    projected = head.project(features.flatten(0, 1)).view(3, 2, 4)
    for place in range(5):
        expected = torch.cosine_similarity(projected, head.prototypes[place], dim=-1)
        torch.testing.assert_close(scores[..., place], expected)
    with torch.no_grad():
        head.prototypes.mul_(torch.tensor([0.5, 2, 3, 4, 5])[:, None])
    torch.testing.assert_close(head(features), scores)
    with torch.autocast("cpu", torch.bfloat16):
        assert head(features).dtype == torch.float32
    torch.testing.assert_close(copy.deepcopy(head)(features), scores)


def test_frozen_prototypes_get_gradients_of_zero_and_the_rest_its_own() -> None:
    torch.manual_seed(0)
    head = PrototypeHead(8, 16, 4, 5)
    features = torch.randn(3, 8)
    free = head(features)
    head.frozen = True
    assert torch.equal(head(features), free)
    head(features)[:, 0].sum().backward()
    assert head.prototypes.grad is not None
    assert not head.prototypes.grad.any()
    assert head.project[0].weight.grad.any()


def test_the_centre_is_the_running_mean_of_the_scores() -> None:
    torch.manual_seed(0)
    centre, expected = Centre(3, momentum=0.6).double(), None
    for n, momentum in enumerate([0, 1 / 2, 0.6, 0.6]):
        scores = torch.randn(4 + n, 2, 3, dtype=torch.float64)
        rows = scores.view(-1, 3).tolist()
        mean = [sum(row[k] for row in rows) / len(rows) for k in range(3)]
        taken = mean if expected is None else expected  # the first step has no history
        torch.testing.assert_close(centre(scores), scores - scores.new_tensor(taken))
        expected = [momentum * c + (1 - momentum) * m for c, m in zip(taken, mean, strict=True)]
        centre.follow()
        torch.testing.assert_close(centre.value, scores.new_tensor(expected))


def test_the_centre_rests_until_it_follows_and_where_nothing_was_seen() -> None:
    centre = Centre(3)
    centre.follow()
    centre(torch.randn(0, 3))
    centre.follow()
    centre(torch.ones(2, 3))
    assert not centre.value.any()
    centre.follow()
    centre.follow()
    assert torch.equal(centre.value, torch.ones(3))
    assert set(centre.state_dict()) == {"value", "steps"}


@pytest.mark.parametrize(("epoch", "value"), [(0, 0.04), (3, 0.055), (6, 0.07), (50, 0.07)])
def test_a_teachers_temperature_rises_evenly_and_stays(epoch: float, value: float) -> None:
    assert warmed(0.04, 0.07, 6, epoch) == pytest.approx(value)


def test_without_a_warm_up_the_temperature_is_there_from_the_start() -> None:
    assert warmed(0.04, 0.07, 0, 0) == 0.07
