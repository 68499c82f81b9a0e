import pytest

from common.errors import ConfigError
from training.metrics import evaluate
from training.metrics.selection import is_better, value_of

METRICS = evaluate([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9], ["a", "b", "c", "d"], bootstrap=0)


def test_the_named_metric_of_the_named_level():
    assert value_of(METRICS, "auc") == 0.75
    assert value_of(METRICS, "acc", "video") == 0.5


def test_of_the_equal_error_rate_the_lower_is_better_of_all_else_the_higher():
    assert is_better(0.1, 0.2, "eer")
    assert not is_better(0.2, 0.1, "eer")
    for name in ("auc", "acc", "ap"):
        assert is_better(0.2, 0.1, name)
        assert not is_better(0.1, 0.1, name)


def test_unknown_names_are_answered_with_the_right_ones():
    with pytest.raises(ConfigError, match=r"f1.*auc, eer"):
        value_of(METRICS, "f1")
    with pytest.raises(ConfigError, match="frame or video"):
        value_of(METRICS, "auc", "clip")
