"""The sample that warm-up records are cut from."""

from small_export import SCHEMA

from serving.warmup import _largest_sample


def test_real_logs_know_no_true_probability(samples):
    lean = [
        {key: value for key, value in sample.items() if key != "true_probability"}
        for sample in samples
    ]
    largest = _largest_sample(lean, SCHEMA, behaviors=40, candidates=12)
    assert "true_probability" not in largest
    assert len(largest["behavior_item_id"]) == len(largest["behavior_time"]) == 40
    assert len(largest["candidate_item_id"]) == len(largest["label"]) == 12
