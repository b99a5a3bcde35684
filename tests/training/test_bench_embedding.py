"""The case that `ctr-tf bench embedding` measures for tables of this project."""

from benchmarks import embedding


def test_a_case_is_measured(monkeypatch):
    monkeypatch.setattr(embedding, "STEPS", {"ours": (2, 5)})
    case = embedding.measure_here("ours", 20_000)
    assert case["steps"] == 5
    assert 0 < case["seconds"] < 10


def test_every_size_has_as_many_distinct_ids():
    for rows in (10_000, 100_000):
        ids, _ = next(iter(embedding._dataset(rows)))
        assert ids.shape == (embedding.BATCH, embedding.IDS)
        distinct = len(set(ids.numpy().ravel().tolist()))
        assert distinct == embedding.BATCH * embedding.IDS // 2
