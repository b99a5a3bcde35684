"""How long the rest will take, by a clock that a test turns."""

from ctr_tf.eta import Eta


def test_the_rest_takes_as_long_as_what_was_done():
    now = [100.0]
    eta = Eta(1_000, done=200, clock=lambda: now[0])
    assert eta.told(200) == ""  # nothing is known yet
    now[0] += 50
    assert eta.told(300) == "  ETA 5 m 50 s"  # 700 more, half a second each
    now[0] += 50
    assert eta.told(600) == "  ETA 1 m 40 s"
    assert eta.told(1_000) == ""


def test_nothing_is_told_where_nobody_knows_how_much_there_is():
    assert Eta(None).told(10) == ""
