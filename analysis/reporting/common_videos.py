"""Whether runs scored the same videos of a test set, and their figures on those that all of them scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.datasets import short_name
from common.errors import DataError
from common.predictions import Predictions
from common.rundir import RunDir, has_auc
from common.standing import digest_of


@dataclass(frozen=True)
class Alike:
    """Runs whose figures can be compared. `notes` says of which test sets only a part counts."""

    runs: list[RunDir]
    notes: list[str]


def alike(runs: Sequence[RunDir], common: bool = False) -> Alike:
    """Return the runs as they are where they scored the same videos of every test set that several of them have.

    Args:
        common: where they did not, restrict that test set to the videos that all of them scored. Its figures are computed anew;
            what has no score is left out of them. Figures of these very videos stay as they are.

    Raises:
        DataError: they scored different videos and `common` is not asked for, or they have none in common.
    """
    differing = {name: sets for name, sets in _by_test_set(runs).items() if len({_digest(*pair) for pair in sets}) > 1}
    if not differing:
        return Alike(list(runs), [])
    if not common:
        raise DataError(_sentence(*next(iter(differing.items()))))
    new: dict[int, tuple[dict[str, dict], dict[str, Predictions]]] = {id(run): ({}, {}) for run in runs}
    notes = []
    for name, sets in differing.items():
        shared = set.intersection(*(_videos(*pair) for pair in sets))
        for run, dataset in sets:
            if _plainly(run.datasets[dataset]) and _videos(run, dataset) == shared:
                continue
            data = run.predictions(dataset)
            part = data.where(np.array([_plain(video) in shared for video in data.video.tolist()], bool))
            if part.one_class:
                raise DataError(f"the runs have no real, or no fake, video of {name} in common; leave one of them out")
            results, predictions = new[id(run)]
            results[dataset], predictions[dataset] = _again(run.datasets[dataset], part), part
        notes.append(f"Of {name} only the {len(shared)} videos that every run scored count.")
    return Alike([run.limited(*new[id(run)]) for run in runs], notes)


def _by_test_set(runs: Sequence[RunDir]) -> dict[str, list[tuple[RunDir, str]]]:
    """Return test set → (run, its own name for it) of all runs that can tell which videos they scored."""
    found: dict[str, list[tuple[RunDir, str]]] = {}
    for run in dict.fromkeys(runs):
        for dataset, metrics in run.datasets.items():
            told = "coverage" in metrics or run.of(dataset).predictions.exists()
            if told and has_auc(metrics):
                found.setdefault(short_name(dataset), []).append((run, dataset))
    return found


def _digest(run: RunDir, dataset: str) -> str:
    coverage = run.datasets[dataset].get("coverage")
    return coverage["videos"] if coverage else digest_of(run.predictions(dataset).video.tolist())


def _plainly(metrics: dict[str, Any]) -> bool:
    """Tell whether what has no score was left out of a test set's figures."""
    return metrics.get("coverage", {}).get("missing", "exclude") == "exclude"


def _plain(video: str) -> str:
    """Return a video's name without the dataset's, under which runs may differ (`FaceForensics++_c23`)."""
    return video.partition("/")[2]


def _videos(run: RunDir, dataset: str) -> set[str]:
    return {_plain(video) for video in np.unique(run.predictions(dataset).video).tolist()}


def _sentence(name: str, sets: list[tuple[RunDir, str]]) -> str:
    first = sets[0]
    other = next(pair for pair in sets if _digest(*pair) != _digest(*first))
    mine, theirs = _videos(*first), _videos(*other)
    return (
        f"{first[0].path} and {other[0].path} scored different videos of {name} ({len(mine)} and {len(theirs)}, "
        f"{len(mine & theirs)} in common), so their figures do not compare; add --common to compare on those in common, or test "
        "both with one index"
    )


def _again(metrics: dict[str, Any], part: Predictions) -> dict[str, Any]:
    """Return a test set's figures of a part of its predictions."""
    from training.metrics import evaluate

    found = evaluate(part.label, part.prob, part.video, person=part.people())
    found["counts"]["videos_of_unknown_people"] = len(np.unique(part.video[part.person < 0]))
    coverage = metrics.get("coverage")
    if coverage:
        found["coverage"] = {
            **{name: _less(coverage[name], found["counts"][f"videos_{name}"]) for name in ("real", "fake")},
            "missing": "exclude",
            "videos": digest_of(part.video.tolist()),
        }
    return found


def _less(tested: dict[str, Any], scored: int) -> dict[str, Any]:
    return {**tested, "scored": scored, "others": tested["scored"] - scored + tested.get("others", 0)}
