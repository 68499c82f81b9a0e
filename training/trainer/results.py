"""Write what an evaluation found into a run directory, each file whole or not at all."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from common.errors import DataError
from common.io import atomic_path, atomic_write, write_json
from common.predictions import HEADER, PERSON, known_people
from common.rundir import TestFiles
from training.config.schema import Config
from training.metrics import evaluate
from training.trainer.evaluator import EXAMPLES, Example, Predictions

TILE = 128
ABSENT = "–"


def score(
    predictions: Predictions, config: Config, dataset: str, bootstrap: int = 1000, one_class: bool = False
) -> dict[str, Any]:
    """Return the metrics of one dataset, and in their counts how many samples could not be read.

    A set of one class is a DataError that names it, or with `one_class` gets the figures that one class allows.
    """
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
        )
    except DataError as error:
        raise DataError(f"{dataset}: {error}") from error
    metrics["counts"]["skipped"] = len(predictions.skipped)
    return metrics


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


def _with_interval(entry: dict[str, float | None]) -> str:
    """Return `value [low, high]`, or the value alone where no interval was computed."""
    if entry["value"] is None or entry["low"] is None:
        return _alone(entry)
    return f"{entry['value']:.4f} [{entry['low']:.4f}, {entry['high']:.4f}]"


def _alone(entry: dict[str, float | None] | None) -> str:
    return ABSENT if entry is None or entry["value"] is None else f"{entry['value']:.4f}"


def table(datasets: dict[str, dict[str, Any]], level: str = "frame") -> str:
    """Return the plain-text table of the metrics of several datasets at one level, AUC with its 95 % interval.

    What a dataset does not have is a dash; samples that could not be read have a column where there are any.
    """
    names = [n for n in dict.fromkeys(n for m in datasets.values() for n in m[level]) if n != "auc"]
    skipped = {dataset: m["counts"].get("skipped", 0) for dataset, m in datasets.items() if "counts" in m}
    header = [f"{level} level", "AUC [95 % interval]", *(name.upper().replace("_", " ") for name in names)]
    rows = [
        [dataset, _with_interval(m[level]["auc"]), *(_alone(m[level].get(name)) for name in names)]
        for dataset, m in datasets.items()
    ]
    if any(skipped.values()):
        header.append("SKIPPED SAMPLES")
        for row in rows:
            row.append(str(skipped.get(row[0], 0)))
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    line = "  ".join("-" * width for width in widths)
    body = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [header, *rows]
    ]
    return "\n".join([body[0], line, *body[1:]])
