"""Histograms of scores: against NumPy's."""

import numpy as np

from ctr_tf.training.metrics import LogitAUC


def test_histograms_count_every_candidate_where_its_logit_is():
    random = np.random.default_rng(0)
    logits = random.normal(-1, 2, (40, 9)).astype(np.float32)
    logits[0, 0] = 99  # as good as certain
    labels = (random.random(logits.shape) < 0.3).astype(np.float32)
    weights = (random.random(logits.shape) < 0.8).astype(np.float32)
    weights[0, 0] = 1
    metric = LogitAUC()
    empty = metric.histograms()
    assert empty["clicked"].shape == empty["not_clicked"].shape == (0, 3)
    for part in (slice(0, 25), slice(25, None)):
        metric.update_state(labels[part], logits[part], weights[part])
    found = metric.histograms()
    for name, label in (("clicked", 1), ("not_clicked", 0)):
        low, high, count = found[name].T
        assert len(count) <= 60
        np.testing.assert_array_equal(low[1:], high[:-1])
        chosen = np.minimum(logits[(labels == label) & (weights > 0)], 31.999)
        edges = np.append(low, high[-1])
        expected, _ = np.histogram(chosen, edges)
        np.testing.assert_array_equal(count, expected)
    np.testing.assert_array_equal(found["clicked"][:, :2], found["not_clicked"][:, :2])
