import pytest

from common.errors import ConfigError
from training.metrics import evaluate, score

METRICS = evaluate([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9], ["a", "b", "c", "d"], bootstrap=0)


def test_higher_is_better_for_every_figure():
    assert score(METRICS, "auc") == 0.75
    assert score(METRICS, "acc", "video") == 0.5
    assert score(METRICS, "eer") == -METRICS["frame"]["eer"]["value"] < 0


def test_unknown_names_are_answered_with_the_right_ones():
    with pytest.raises(ConfigError, match=r"f1.*auc, eer"):
        score(METRICS, "f1")
    with pytest.raises(ConfigError, match="frame or video"):
        score(METRICS, "auc", "clip")
