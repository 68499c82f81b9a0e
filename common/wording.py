"""Sentences that several commands and pages say, so that they say the same."""

from collections.abc import Collection
from typing import Any

from common.standing import ENOUGH, standing


def about_training(note: str | None) -> str:
    """Return a run's `data_note` as what it is, a sentence on the training data; empty where there is none.

    Unsaid, "nobody in them exists" would be read of the videos under judgement.
    """
    return f"About the training data: {note}" if note else ""


def remarks(datasets: dict[str, dict[str, Any]]) -> list[str]:
    """Return a sentence for each tested dataset that is not whole, or of one class only, or whose faces were cut otherwise.

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
    found += [about_coverage(dataset, m) for dataset, m in datasets.items() if _is_short(m)]
    return found + [f"{note}." for m in datasets.values() if (note := m.get("crops_note"))]


def _is_short(metrics: dict[str, Any]) -> bool:
    tested = standing(metrics).tested
    return tested is not None and (
        tested.missing > 0 or (metrics["coverage"]["missing"] == "chance" and tested.share is None)
    )


def about_coverage(dataset: str, metrics: dict[str, Any]) -> str:
    """Return how many videos of a test set were scored, what became of the others, and how they count."""
    stands = standing(metrics)
    assert stands.tested is not None
    share = stands.tested.share
    if share is None:
        return f"{dataset}: {stands.text}; its index has no coverage, so how many are missing is unknown."
    only = "only " if share < ENOUGH else ""
    hint = "" if stands.how == "chance" else "; --missing chance counts the others with a coin's score"
    return f"{dataset}: {only}{100 * share:.1f} % of the test set was scored, {stands.text}{hint}."


def shortfalls(datasets: dict[str, dict[str, Any]]) -> list[str]:
    """Return those remarks that are warnings: of test sets of which less than 99 % was scored."""
    shares = {dataset: standing(m).tested for dataset, m in datasets.items()}
    return [
        about_coverage(dataset, datasets[dataset])
        for dataset, tested in shares.items()
        if tested is not None and tested.share is not None and tested.share < ENOUGH
    ]


def with_mark(manipulation: str, held_out: Collection[str]) -> str:
    """Return a manipulation's name, marked where training never saw it on purpose."""
    return f"{manipulation} (held out)" if manipulation in held_out else manipulation
