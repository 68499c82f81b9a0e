"""Sentences that several commands and pages say, so that they say the same."""

from typing import Any


def about_training(note: str | None) -> str:
    """Return a run's `data_note` as what it is, a sentence on the training data; empty where there is none.

    Unsaid, "nobody in them exists" would be read of the videos under judgement.
    """
    return f"About the training data: {note}" if note else ""


def remarks(datasets: dict[str, dict[str, Any]]) -> list[str]:
    """Return a sentence for each tested dataset that is not whole: of one class only, or with samples that could not be read.

    Args:
        datasets: name → content of its metrics.json.
    """
    found = [f"{dataset} {m['one_class']['note']}." for dataset, m in datasets.items() if "one_class" in m]
    for dataset, m in datasets.items():
        if skipped := m["counts"].get("skipped"):
            found.append(
                f"{dataset}: {skipped} sample{'s' * (skipped != 1)} could not be read; the figures are without them."
            )
    return found
