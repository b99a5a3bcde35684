"""Each loss beside its formula in NumPy, and that padding has no part in it."""

import numpy as np
import pytest
from backends import gradients

from ctr_tf.losses import (
    LOSSES,
    AuxiliaryLoss,
    DistillationLoss,
    ListwiseSoftmax,
    LogLoss,
)
from ctr_tf.losses.outputs import Outputs
from ctr_tf.training.objective import Objective, ObjectiveConfig, Term

LABELS = np.array([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 1]], "float32")
SIZES = np.array([4, 3, 2, 2])  # the last slate has one click, and padding after it
WEIGHTS = (np.arange(4) < SIZES[:, None]).astype("float32")


def logits(seed=0, tasks=1):
    return np.random.default_rng(seed).normal(size=(4, 4, tasks)).astype("float32")


def bce(label, logit):
    p = 1 / (1 + np.exp(-logit))
    return -np.log(p) if label else -np.log(1 - p)


def mean(loss, outputs, labels=LABELS[..., None]):
    """What a loss is, on one replica; padding is NaN."""
    hidden = np.where(WEIGHTS[..., None] > 0, outputs.logits, np.nan)
    auxiliary = {
        name: np.where(WEIGHTS[..., None] > 0, value, np.nan)
        for name, value in outputs.auxiliary.items()
    }
    outputs = {"main": Outputs(hidden.astype("float32"), auxiliary)}
    return float(loss.total(outputs, labels, WEIGHTS) / loss.count(labels, WEIGHTS))


def test_log_loss():
    values = logits()
    losses = [
        bce(LABELS[b, c], values[b, c, 0]) for b in range(4) for c in range(SIZES[b])
    ]
    found = mean(LogLoss(), Outputs(values, {}))
    assert found == pytest.approx(np.mean(losses), rel=1e-5)


def test_log_loss_is_the_mean_over_the_labels():
    values, other = logits(tasks=2), np.roll(LABELS, 1, axis=1)
    labels = np.stack([LABELS, other], axis=-1)
    parts = [
        mean(LogLoss(), Outputs(values[..., t : t + 1], {}), labels[..., t : t + 1])
        for t in range(2)
    ]
    found = mean(LogLoss(), Outputs(values, {}), labels)
    assert found == pytest.approx(np.mean(parts), rel=1e-5)


def test_listwise_softmax():
    values = logits()[..., 0]
    losses = []
    for b in (0, 3):  # the second has no click, the third nothing else
        real = slice(0, SIZES[b])
        share = np.exp(values[b, real]) / np.exp(values[b, real]).sum()
        clicks = LABELS[b, real]
        losses.append(-(clicks * np.log(share)).sum() / clicks.sum())
    found = mean(ListwiseSoftmax(), Outputs(logits(), {}))
    assert found == pytest.approx(np.mean(losses), rel=1e-5)
    shifted = Outputs(logits() + np.arange(4, dtype="f")[:, None, None], {})
    assert mean(ListwiseSoftmax(), shifted) == pytest.approx(found, rel=1e-5)


def test_auxiliary_loss_is_the_sum_of_its_parts():
    parts = {"one": logits(1), "two": logits(2)}
    expected = sum(mean(LogLoss(), Outputs(value, {})) for value in parts.values())
    found = mean(AuxiliaryLoss(), Outputs(logits(), parts))
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES.values())
def test_slates_without_candidates_are_nothing(loss):
    none = np.zeros((2, 3), "float32")
    outputs = Outputs(np.full((2, 3, 1), np.nan, "float32"), {"x": none[..., None]})
    assert float(loss().count(none[..., None], none)) == 0
    assert float(loss().total({"main": outputs}, none[..., None], none)) == 0


def test_an_objective_weighs_means_of_the_global_batch():
    objective = Objective([Term("a", LogLoss(), 2.0), Term("b", ListwiseSoftmax(), 3)])
    outputs = {"main": Outputs(logits(), {})}
    labels = LABELS[..., None]
    whole = objective.totals(outputs, labels, WEIGHTS)
    factors = objective.factors(objective.counts(labels, WEIGHTS), step=0)
    shares = [
        objective.totals({"main": Outputs(logits()[s], {})}, labels[s], WEIGHTS[s])
        for s in (slice(0, 1), slice(1, 4))
    ]
    for name, weight, loss in (("a", 2, LogLoss()), ("b", 3, ListwiseSoftmax())):
        expected = weight * mean(loss, outputs["main"])
        assert float(whole[name] * factors[name]) == pytest.approx(expected, rel=1e-5)
        parts = sum(float(share[name] * factors[name]) for share in shares)
        assert parts == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ObjectiveConfig(listwise=-1.0), "Received: -1.0"),
        (lambda: ObjectiveConfig(log_loss=0.0), "needs one of log_loss, listwise"),
        (lambda: Objective([]), "Received: []"),
        (
            lambda: Objective([Term("a", LogLoss()), Term("a", LogLoss())]),
            "Received: ['a', 'a']",
        ),
    ],
)
def test_mistakes(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert message in str(error.value)


def soft_bce(target, logit):
    return target * bce(1, logit) + (1 - target) * bce(0, logit)


def distilled(temperature, student, teacher):
    loss = DistillationLoss(temperature=temperature)
    hidden = WEIGHTS[..., None] > 0
    outputs = {
        name: Outputs(np.where(hidden, values, np.nan).astype("float32"), {})
        for name, values in (("main", student), ("teacher", teacher))
    }
    total = loss.total(outputs, LABELS[..., None], WEIGHTS)
    return float(total / loss.count(LABELS[..., None], WEIGHTS))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_distillation(temperature):
    student, teacher = logits(1), logits(2)
    losses = [
        temperature**2
        * soft_bce(
            1 / (1 + np.exp(-teacher[b, c, 0] / temperature)),
            student[b, c, 0] / temperature,
        )
        for b in range(4)
        for c in range(SIZES[b])
    ]
    found = distilled(temperature, student, teacher)
    assert found == pytest.approx(np.mean(losses), rel=1e-5)


def test_at_temperature_1_the_labels_and_the_teacher_are_one_target():
    """The mean of the label and of what the teacher says; see the SUAN paper's loss."""
    student, teacher, weight = logits(1), logits(2), 0.7
    both = mean(LogLoss(), Outputs(student, {})) + weight * distilled(
        1.0, student, teacher
    )
    losses = [
        soft_bce((LABELS[b, c] + weight * p) / (1 + weight), student[b, c, 0])
        for b in range(4)
        for c in range(SIZES[b])
        for p in [1 / (1 + np.exp(-teacher[b, c, 0]))]
    ]
    assert both == pytest.approx((1 + weight) * np.mean(losses), rel=1e-5)


def test_a_teacher_gets_no_gradient_of_its_student():
    def loss(student, teacher):
        outputs = {"main": Outputs(student, {}), "teacher": Outputs(teacher, {})}
        return DistillationLoss().total(outputs, LABELS[..., None], WEIGHTS)

    pair = gradients(loss, (logits(1), logits(2)))
    of_student, of_teacher = map(np.asarray, pair)
    assert not np.any(of_teacher) and np.abs(of_student).max() > 0


def test_labels_are_of_what_was_shown_where_and_a_teacher_is_of_scores_alone():
    random = np.random.default_rng(0)
    logits, places = (random.normal(size=(2, 3, 1)).astype("float32") for _ in range(2))
    labels = (random.random((2, 3, 1)) < 0.5).astype("float32")
    weights = np.ones((2, 3), "float32")
    placed = {"main": Outputs(logits, places=places), "teacher": Outputs(logits)}
    summed = {"main": Outputs(logits + places), "teacher": Outputs(logits)}
    plain = {"main": Outputs(logits), "teacher": Outputs(logits)}
    for loss, same, other in (
        (LogLoss(), summed, plain),
        (ListwiseSoftmax(), summed, plain),
        (DistillationLoss("main", "teacher"), plain, summed),
    ):
        total, *others = (
            float(loss.total(outputs, labels, weights))
            for outputs in (placed, same, other)
        )
        assert abs(total - others[0]) < 1e-6 < abs(total - others[1])
