"""The example in the docstring of everything public: there, right, and small."""

import doctest

import pytest

import ctr_tf.evaluation
import ctr_tf.layers
import ctr_tf.losses

PUBLIC = [
    pytest.param(module, name, id=name)
    for module in (ctr_tf.layers, ctr_tf.losses, ctr_tf.evaluation)
    for name in module.__all__
    if name != "LOSSES"  # a table of the others
]


@pytest.mark.parametrize(("module", "name"), PUBLIC)
def test_example(module, name):
    text = getattr(module, name).__doc__
    test = doctest.DocTestParser().get_doctest(text, {}, name, None, 0)
    assert f"from {module.__name__} import" in text, "no example imports it"
    assert any(name in example.source for example in test.examples)
    assert test.examples[-1].want, "the example shows nothing"
    assert len(test.examples) <= 12
    found = []
    result = doctest.DocTestRunner().run(test, out=found.append)
    assert result.failed == 0, "".join(found)
