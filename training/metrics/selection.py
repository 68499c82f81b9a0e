"""One number per checkpoint, higher is better, for choosing the best on validation."""

from common.errors import ConfigError

LOWER_IS_BETTER = frozenset({"eer"})


def score(metrics: dict, metric_scoring: str = "auc", level: str = "frame") -> float:
    """Return the figure that `metric_scoring` names, with the sign turned where lower is better (EER).

    Args:
        metrics: from `evaluate`.
        metric_scoring: `auc`, `acc`, `eer`, `ap`, or any other key of a level.
        level: `frame` or `video`.

    Raises:
        ConfigError: there is no such level or figure.
    """
    if level not in ("frame", "video"):
        raise ConfigError(f"metric_level must be frame or video, not {level}")
    if metric_scoring not in metrics[level]:
        raise ConfigError(f"metric_scoring {metric_scoring} is not computed; choose from {', '.join(metrics[level])}")
    value = metrics[level][metric_scoring]["value"]
    return -value if metric_scoring in LOWER_IS_BETTER else value
