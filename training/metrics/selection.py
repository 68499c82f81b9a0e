"""What the best checkpoint on validation is."""

from typing import Any

from common.errors import ConfigError

LOWER_IS_BETTER = frozenset({"eer"})


def value_of(metrics: dict[str, Any], metric_scoring: str = "auc", level: str = "frame") -> float:
    """Return the metric that `metric_scoring` and `metric_level` name.

    Args:
        metrics: from `evaluate`.
        metric_scoring: `auc`, `acc`, `eer`, `ap`, or any other key of a level.
        level: `frame` or `video`.

    Raises:
        ConfigError: there is no such level or metric.
    """
    if level not in ("frame", "video"):
        raise ConfigError(f"metric_level must be frame or video, not {level}")
    if metric_scoring not in metrics[level]:
        raise ConfigError(f"metric_scoring {metric_scoring} is not computed; choose from {', '.join(metrics[level])}")
    return metrics[level][metric_scoring]["value"]


def is_better(value: float, than: float, metric_scoring: str) -> bool:
    """Return whether one value of a metric beats another: the higher one does, of the EER the lower."""
    return value < than if metric_scoring in LOWER_IS_BETTER else value > than
