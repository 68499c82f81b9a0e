"""Sentences that several commands and pages say, so that they say the same."""

from typing import Any


def about_training(note: str | None) -> str:
    """Return a run's `data_note` as what it is, a sentence on the training data; empty where there is none.

    Unsaid, "nobody in them exists" would be read of the videos under judgement.
    """
    return f"About the training data: {note}" if note else ""


def remarks(datasets: dict[str, dict[str, Any]]) -> list[str]:
    """Return a sentence for each tested dataset that is not whole: of one class only, with samples that could not be read, or
    with videos that are shorter than a clip.

    Args:
        datasets: name → content of its metrics.json.
    """
    found = [f"{dataset} {m['one_class']['note']}." for dataset, m in datasets.items() if "one_class" in m]
    for dataset, m in datasets.items():
        if skipped := m["counts"].get("skipped"):
            found.append(
                f"{dataset}: {skipped} sample{'s' * (skipped != 1)} could not be read; the figures are without them."
            )
        if short := m["counts"].get("too_short"):
            verb = "has" if short == 1 else "have"
            found.append(
                f"{dataset}: {short} video{'s' * (short != 1)} with fewer frames than a clip {verb} no score; the figures are "
                "without them."
            )
    return found
