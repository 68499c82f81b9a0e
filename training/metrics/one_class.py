"""What can be said of a test set of fakes only, or of reals only: who was found at the threshold, and how the scores lie."""

import numpy as np

from training.metrics.decision import HALF, called_fake
from training.metrics.samples import Samples

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
BINS = 20


def about(levels: dict[str, Samples], threshold: float = HALF) -> dict:
    """Return what a set of one class allows.

    Returns:
        `{"class": "fake", "threshold": 0.5, "note": one sentence, "frame": {"recall": …, "quantiles": {"0.05": …},
        "histogram": {"edges": BINS + 1 of them, "counts"}}, "video": the same}`; for reals `false_alarm_rate` in place of
        `recall`: the share that is called fake, either way.
    """
    samples = next(iter(levels.values()))
    fake = samples.missing == "real"
    rate = "recall" if fake else "false_alarm_rate"
    found = {name: _level(level, rate, threshold) for name, level in levels.items()}
    what = "recall" if fake else "false alarms"
    rates = ", ".join(f"{found[name][rate]:.4f} of {name}s" for name in levels)
    note = (
        f"holds {'fakes' if fake else 'reals'} only: {what} at {threshold:g}: {rates}; "
        "AUC and whatever else needs both classes is absent"
    )
    return {"class": "fake" if fake else "real", "threshold": threshold, "note": note, **found}


def _level(samples: Samples, rate: str, threshold: float) -> dict:
    counts, edges = np.histogram(samples.prob, BINS, (0, 1))
    return {
        rate: float(called_fake(samples.prob, threshold).mean()),
        "quantiles": dict(zip(map(str, QUANTILES), np.quantile(samples.prob, QUANTILES).tolist())),
        "histogram": {"edges": edges.round(9).tolist(), "counts": counts.tolist()},
    }
