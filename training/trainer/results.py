"""Write what an evaluation found into a run directory, each file whole or not at all."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from common.coverage import Crops, Slot
from common.errors import DataError
from common.io import atomic_path, atomic_write, write_json
from common.predictions import HEADER, PERSON, known_people, label_folders
from common.rundir import TestFiles
from common.standing import WORDS, Tested, digest_of, is_few, standing
from common.wording import with_mark
from training.batch import UNKNOWN_PERSON, DataInfo
from training.config.schema import Config
from training.dataset.index.covered import CLASSES
from training.dataset.index.videos import Index
from training.metrics import evaluate
from training.metrics.beside import manipulations, risk_area, told
from training.metrics.decision import HALF
from training.trainer.evaluator import EXAMPLES, Example, Predictions
from training.trainer.loaders import crops_note

TILE = 128
ABSENT = "–"


@dataclass(frozen=True)
class Known:
    """What is known of a test set besides its predictions.

    Attributes:
        videos: how many videos its index holds, real and fake, each once however many people are seen in it. expected: of `real`
            and `fake`, how many there should be, and why the others have no frames; None where the index tells nothing.
        crops: how its faces were cut. note: a sentence where the training's were cut otherwise.
        further: entry of a further person → that of the video's first one. too_short: videos that are shorter than a clip.
    """

    videos: tuple[int, int]
    expected: Mapping[str, Slot] | None = None
    crops: Crops | None = None
    note: str = ""
    further: Mapping[str, str] = field(default_factory=dict)
    too_short: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())

    @classmethod
    def of(cls, index: Index, dataset: str, trained: DataInfo | None, too_short: Iterable[str] = ()) -> Known:
        """Take it from the index of that test set alone, and what is known of the training data."""
        covered = index.coverage[dataset]
        further = index.further_people()
        label_of = dict(zip(index.video_ids(), index.label.tolist(), strict=True))

        def per_class(names: Iterable[str]) -> tuple[frozenset[str], frozenset[str]]:
            videos = {further.get(name, name) for name in names}
            real, fake = (frozenset(video for video in videos if label_of[video] == label) for label in (0, 1))
            return real, fake

        real, fake = per_class(label_of)
        return cls(
            (len(real), len(fake)),
            covered.classes,
            covered.crops,
            crops_note(index, dataset, trained),
            further,
            per_class(too_short),
        )


def score(
    predictions: Predictions,
    config: Config,
    dataset: str,
    bootstrap: int = 1000,
    one_class: bool = False,
    known: Known | None = None,
) -> dict[str, Any]:
    """Return the metrics of one dataset, and what they stand on: `counts`, `coverage`, `crops`.

    Beside them, of the videos that were scored: `risk_coverage` (area, threshold) and, of sets with two or more kinds of fakes,
    `manipulations` (`training.metrics.beside.told`).

    A set of one class is a DataError that names it, or with `one_class` gets the figures that one class allows. With
    `config.missing` `chance`, videos without a score count with a coin's (`evaluate`), as far as is known that there are any.
    """
    tested = _tested(predictions, known) if known else None
    coins = (0, 0)
    if tested and config.missing == "chance":
        coins = tested["real"].missing, tested["fake"].missing
    try:
        metrics = evaluate(
            predictions.label,
            predictions.prob,
            np.asarray(predictions.video),
            tpr=tuple(config.tnr_at_tpr),
            bootstrap=bootstrap,
            seed=config.manualSeed,
            one_class=one_class,
            person=known_people(predictions.target_id),
            coins=coins,
        )
    except DataError as error:
        raise DataError(f"{dataset}: {error}") from error
    metrics |= _beside(predictions, config, bootstrap)
    person_of = dict(zip(predictions.video, predictions.target_id.tolist(), strict=True))
    unknown = sum(person == UNKNOWN_PERSON for person in person_of.values())
    metrics["counts"] |= {"skipped": len(predictions.skipped), "videos_of_unknown_people": unknown}
    if known and tested:
        metrics["coverage"] = {
            **{name: each.told() for name, each in tested.items()},
            "missing": config.missing,
            "videos": digest_of(predictions.video),
        }
        metrics["crops"] = known.crops
        if known.note:
            metrics["crops_note"] = known.note
    return metrics


def _beside(predictions: Predictions, config: Config, bootstrap: int) -> dict[str, Any]:
    """Return risk over coverage and the manipulations, of videos."""
    scored = predictions.label, predictions.prob, predictions.video
    person = known_people(predictions.target_id)
    area = risk_area(*scored, person=person, resamples=bootstrap, seed=config.manualSeed)
    found: dict[str, Any] = {"risk_coverage": {"area": area, "threshold": HALF}}
    kinds = label_folders(list(predictions.video))
    report = manipulations(*scored, kinds, person=person, resamples=bootstrap, seed=config.manualSeed)
    return found if report is None else found | {"manipulations": told(report)}


def _tested(predictions: Predictions, known: Known) -> dict[str, Tested]:
    """Return, by class, how many videos were expected and scored, and what became of the others."""
    label_of = {
        known.further.get(video, video): label
        for video, label in zip(predictions.video, predictions.label.tolist(), strict=True)
    }
    found = {}
    for number, name in enumerate(CLASSES):
        scored = sum(label == number for label in label_of.values())
        short = len(known.too_short[number] - label_of.keys())
        skipped = known.videos[number] - scored - short
        slot = known.expected[name] if known.expected else None
        if slot is None:
            found[name] = Tested(None, scored, skipped=skipped, too_short=short)
        else:
            # Entries of one video that were united count once, here and there.
            expected = slot.expected - slot.frames + known.videos[number]
            found[name] = Tested(expected, scored, slot.no_face, slot.unreadable, slot.absent, skipped, short)
    return found


def write_dataset(
    files: TestFiles, predictions: Predictions, metrics: dict[str, Any], save_feat: bool, too_short: Sequence[str] = ()
) -> None:
    """Write predictions.csv, metrics.json, examples.png and, where asked, features.npz; list what has no score.

    Args:
        too_short: videos with fewer frames than a clip, for `too_short.txt` and the counts of `metrics`.

    What a former test left there goes first: its features or list of skipped samples would be taken for those of this one.
    """
    files.remove()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns: list[list] = [predictions.video]
    columns += [getattr(predictions, name).tolist() for name in ("frame", "label", "method")]
    columns.append([f"{prob:.9g}" for prob in predictions.prob.tolist()])
    people = known_people(predictions.target_id) is not None
    if people:
        columns.append(predictions.target_id.tolist())
    writer.writerow([*HEADER, PERSON] if people else HEADER)
    writer.writerows(zip(*columns, strict=True))
    atomic_write(files.predictions, text.getvalue())
    if predictions.examples:
        _write_examples(files, predictions.examples)
    if predictions.skipped:
        atomic_write(files.skipped, "\n".join(predictions.skipped) + "\n")
    if too_short:
        metrics["counts"]["too_short"] = len(too_short)
        atomic_write(files.too_short, "\n".join(too_short) + "\n")
    if save_feat:
        with atomic_path(files.features) as temporary:
            np.savez_compressed(
                temporary,
                feat=predictions.feat,
                label=predictions.label,
                method=predictions.method,
                target_id=predictions.target_id,
                source_id=predictions.source_id,
                video=np.asarray(predictions.video),
                frame=predictions.frame,
            )
    write_json(files.metrics, metrics)


def _write_examples(files: TestFiles, groups: dict[str, list[Example]]) -> None:
    """Draw one row per group, and under it one row per spatial map; say in JSON what each tile is."""
    import cv2

    rows: list[np.ndarray] = []
    captions: list[dict[str, Any]] = []
    for group, examples in groups.items():
        names = ["image", *examples[0].maps] if examples else []
        for name in names:
            tiles = [_tile(example, name) for example in examples]
            tiles += [np.full((TILE, TILE, 3), 255, np.uint8)] * (EXAMPLES - len(tiles))
            rows.append(np.concatenate(tiles, axis=1))
            captions.append({"group": group, "map": name})
        captions[-len(names)]["tiles"] = [
            {"video": e.video, "frame": e.frame, "prob": round(e.prob, 4)} for e in examples
        ]
    if not rows:
        return
    sheet = np.concatenate(rows)
    atomic_write(files.examples, cv2.imencode(".png", sheet[..., ::-1])[1].tobytes())
    write_json(files.captions, {"tile": TILE, "rows": captions})


def _tile(example: Example, name: str) -> np.ndarray:
    """Return `(TILE, TILE, 3)` RGB: the face, or a map over the darkened face."""
    import cv2

    face = cv2.resize(example.image, (TILE, TILE), interpolation=cv2.INTER_AREA)
    if name == "image":
        return face
    # Relative to its own largest value: an energy has no unit, and may be far below 1 everywhere.
    heat = example.maps[name] / max(float(example.maps[name].max()), 1e-12)
    tile = cv2.resize((heat.clip(0, 1) * 255).astype(np.uint8), (TILE, TILE), interpolation=cv2.INTER_LINEAR)
    colour = cv2.applyColorMap(tile, cv2.COLORMAP_INFERNO)[..., ::-1]
    return cv2.addWeighted(face, 0.35, colour, 0.65, 0)


def _with_interval(entry: dict[str, float | None], few: bool) -> str:
    """Return `value [low, high]`, the interval first with `few` videos, or the value alone where no interval was computed."""
    if entry["value"] is None or entry["low"] is None:
        return _alone(entry)
    value, interval = f"{entry['value']:.4f}", f"[{entry['low']:.4f}, {entry['high']:.4f}]"
    return f"{interval} {value}" if few else f"{value} {interval}"


def _alone(entry: dict[str, float | None] | None) -> str:
    return ABSENT if entry is None or entry["value"] is None else f"{entry['value']:.4f}"


def by_manipulation(datasets: dict[str, dict[str, Any]], held_out: Collection[str] = ()) -> str:
    """Return a line per test set with several kinds of fakes: mean of their video AUCs, gap, and each, the worst first.

    Those that training held out are marked.
    """
    lines = []
    for name, metrics in datasets.items():
        if found := metrics.get("manipulations"):
            few = is_few(metrics)
            each = ", ".join(
                f"{with_mark(one['name'], held_out)} {_with_interval(one['auc'], few)}" for one in found["worst_first"]
            )
            lines.append(
                f"{name}, video AUC by manipulation: mean {_with_interval(found['mean'], few)}, "
                f"best less worst {_with_interval(found['gap'], few)}; worst first: {each}"
            )
    return "\n".join(lines)


def table(datasets: dict[str, dict[str, Any]], level: str = "frame") -> str:
    """Return the plain-text table of the metrics of several datasets at one level, AUC with its 95 % interval.

    With fewer than 30 videos of a class the interval comes first. Beside the AUC stand the videos that were scored, of how many
    expected ones, how the others count, and how many people were seen. What a dataset does not have is a dash; videos without a
    face and so on, and samples that could not be read, have a column each where there are any.
    """
    names = [n for n in dict.fromkeys(n for m in datasets.values() for n in m[level]) if n != "auc"]
    stands = {dataset: standing(m) for dataset, m in datasets.items()}
    header = [f"{level} level", "AUC [95 % interval]", "VIDEOS SCORED/EXPECTED", "PEOPLE"]
    header += [name.upper().replace("_", " ") for name in names]
    rows = []
    for dataset, m in datasets.items():
        auc, people = _with_interval(m[level]["auc"], is_few(m)), m["counts"].get("people")
        rows.append([dataset, auc, stands[dataset].cell, str(people or ABSENT)])
        rows[-1] += [_alone(m[level].get(name)) for name in names]
    columns = {f"videos {word}": [each.number(key) for each in stands.values()] for key, word in WORDS.items()}
    columns["skipped samples"] = [m["counts"].get("skipped", 0) for m in datasets.values()]
    for title, numbers in columns.items():
        if any(numbers):
            header.append(title.upper())
            for row, number in zip(rows, numbers, strict=True):
                row.append(ABSENT if number is None else str(number))
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    line = "  ".join("-" * width for width in widths)
    body = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [header, *rows]
    ]
    return "\n".join([body[0], line, *body[1:]])
