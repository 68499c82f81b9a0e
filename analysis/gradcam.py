"""Heat maps side by side on faces, and how faithful they are.

    python analysis/gradcam.py logs/clip_crossdomain/2026-01-01-12-00-00 --datasets Celeb-DF-v2 --faces 6 --measure 40

Grad-CAM (any network), attention roll-out (transformers), and the detector's own maps (Boundary Mining's W, the frequency
branches' energies). Faithfulness on fakes: deletion and insertion areas against random order, and the heat inside the true
manipulation mask against the mask's share of the area. Of a detector of clips: Grad-CAM over time as a filmstrip; places are
taken away and given back in all frames of a clip at once, by their mean heat.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.cli import MOST_SEED, run, whole

if TYPE_CHECKING:
    from analysis.reporting.sections import Section
    from prediction.trained import Video

NO_BETTER = " (as chance)"  # behind a difference to chance whose interval holds 0
FIELDS = (
    "video",
    "frame",
    "prob",
    "map",
    "deletion",
    "insertion",
    "deletion_random",
    "insertion_random",
    "mass",
    "chance",
)


def pick(source: Iterable[Video], faces: int) -> list[tuple[Video, int]]:
    """Return the middle sample of at most `faces` videos, taken in turn from each manipulation (and from the reals).

    Indexes list the videos of every manipulation in the same order of persons; each starts at another place of its own list, so
    that few faces do not all show one person.
    """
    by_method: dict[int, list[tuple[Video, int]]] = {}
    for video in source:
        group = by_method.setdefault(video.method if video.label else 0, [])
        if len(group) < faces:
            middle = len(video.frame) // 2
            mask = None if video.mask is None else video.mask[middle : middle + 1]
            # Only the one frame is kept: whole videos of a large test set would not fit into memory.
            image, frame = video.image[middle : middle + 1], video.frame[middle : middle + 1]
            group.append((type(video)(video.name, video.label, video.method, frame, image, mask), 0))
    chosen: list[tuple[Video, int]] = []
    methods = sorted(by_method, key=lambda number: (number == 0, number))
    for turn in range(faces):
        for place, method in enumerate(methods):
            group = by_method[method]
            if turn < len(group) and len(chosen) < faces:
                chosen.append(group[(turn + place * max(1, len(group) // len(methods))) % len(group)])
    return chosen


def explain(detector: Any, chosen: list[tuple[Video, int]]) -> list[dict[str, Any]]:
    """Return `{"video", "image" (3, H, W), "prob", "maps": {name: (H, W)}, "mask"}` of each chosen sample.

    Of a clip `(T, 3, H, W)` maps and mask are `(T, H, W)`.
    """
    import torch

    from prediction.saliency import all_maps
    from prediction.trained import predict_images

    found = []
    for video, position in chosen:
        image = video.image[position : position + 1]
        maps = {name: heat[0] for name, heat in all_maps(detector, torch.from_numpy(image)).items()}
        mask = None if video.mask is None or not video.mask[position].any() else video.mask[position][..., 0, :, :]
        prob = float(predict_images(detector, image, 1)[0])
        found.append(
            {"video": video, "position": position, "image": image[0], "prob": prob, "maps": maps, "mask": mask}
        )
    return found


def faithfulness(detector: Any, explained: list[dict[str, Any]], seed: int = 0) -> list[dict[str, Any]]:
    """Return one row per fake and map: deletion and insertion areas, the same in random order, heat inside the mask.

    A map without any heat (Grad-CAM, where no place speaks for a fake) ranks nothing: its figures are None.
    """
    import numpy as np

    from analysis.measures.faithfulness import GRID, cell_order, deletion_insertion, mass_inside
    from analysis.reporting.filmstrip import over_time
    from common.progress import Progress

    rows = []
    fakes = [entry for entry in explained if entry["video"].label == 1]
    for number, entry in enumerate(Progress(fakes, "faithfulness, faces", len(fakes))):
        rng = np.random.default_rng([seed, number])
        chance = [deletion_insertion(detector, entry["image"], rng.permutation(GRID * GRID)) for _ in range(3)]
        random = np.mean(chance, axis=0)
        for name, heat in entry["maps"].items():
            areas: tuple[float | None, float | None] = (None, None)
            if heat.any():
                areas = deletion_insertion(detector, entry["image"], cell_order(over_time(heat)))
            masked = entry["mask"] is not None and heat.any()
            mass = mass_inside(heat, entry["mask"]) if masked else (None, None)
            frame = int(entry["video"].frame[entry["position"]])
            values = (entry["video"].name, frame, entry["prob"], name, *areas, *map(float, random), *mass)
            rows.append(dict(zip(FIELDS, values)))
    return rows


def draw(explained: list[dict[str, Any]], stem: Path) -> list[Path]:
    """Draw a row per face: the face, the true mask where there are masks, and each map over the face; of clips a filmstrip."""
    from common import style

    if explained[0]["image"].ndim == 4:
        from analysis.reporting.filmstrip import filmstrip

        return filmstrip(explained, stem)

    names = list(dict.fromkeys(name for entry in explained for name in entry["maps"]))
    masks = any(entry["mask"] is not None for entry in explained)
    columns = ["face", *(["true mask"] if masks else []), *names]
    with style.figure(1.5 * len(columns), 1.4 * len(explained) + 0.3, len(explained), len(columns), squeeze=False) as (
        drawing,
        grid,
    ):
        for row, (entry, line) in enumerate(zip(explained, grid)):
            face = entry["image"].transpose(1, 2, 0)
            for axes, column in zip(line, columns):
                axes.set(xticks=[], yticks=[])
                axes.grid(False)
                axes.spines[:].set_visible(False)
                axes.imshow(face, cmap="gray")
                if column == "true mask":
                    mask = entry["mask"] if entry["mask"] is not None else face[..., 0] * 0
                    axes.imshow(mask, cmap="gray", vmin=0, vmax=1)
                elif column in entry["maps"]:
                    axes.imshow(
                        entry["maps"][column], cmap="inferno", alpha=0.6, vmin=0, vmax=1, interpolation="bilinear"
                    )
                if row == 0:
                    axes.set_title(style.map_title(column), fontsize=8, loc="center")
            kind = "fake" if entry["video"].label else "real"
            line[0].set_ylabel(f"{kind}, p = {entry['prob']:.2f}", fontsize=8)
        return style.save(drawing, stem)


def summary(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Return the means per map as texts for the report; the gains over chance with 95 % t-intervals over faces."""
    from common.style import map_title

    table = []
    for name in dict.fromkeys(row["map"] for row in rows):
        own = [row for row in rows if row["map"] == name]
        cells = [map_title(name)]
        for value, chance in (("deletion", "deletion_random"), ("insertion", "insertion_random"), ("mass", "chance")):
            pairs = [(row[value], row[chance]) for row in own if row[value] is not None]
            cells += _against_chance(pairs) if pairs else ["–", "–"]
        empty = sum(row["deletion"] is None for row in own)
        table.append([*cells, str(len(own)) + (f" ({empty} without heat)" if empty else "")])
    return table


def _against_chance(pairs: list[tuple[float, float]]) -> list[str]:
    """Return `mean (mean of chance)` and `mean difference ± half its 95 % interval`, marked where that does not tell.

    It does not where the interval holds 0, nor where one face gives no interval.
    """
    import numpy as np
    from scipy.stats import t

    value, chance = np.array(pairs, float).T
    gain = value - chance
    text = f"{gain.mean():+.3f}"
    half = math.inf
    if len(gain) > 1:
        half = float(t.ppf(0.975, len(gain) - 1) * gain.std(ddof=1) / np.sqrt(len(gain)))
        text += f" ± {half:.3f}"
    if abs(gain.mean()) <= half:
        text += NO_BETTER
    return [f"{value.mean():.3f} ({chance.mean():.3f})", text]


def _write(folder: Path, explained: list[dict], shown: int, rows: list[dict]) -> Section:
    from analysis.reporting.sections import Section
    from common.io import atomic_write

    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write(folder / "faithfulness.csv", text.getvalue())
    draw(explained[:shown], folder / "heatmaps")
    columns = ["Map", "Deletion (random)", "Difference", "Insertion (random)", "Difference"]
    columns += ["Heat inside mask (chance)", "Difference", "Fakes"]
    words = (
        "Maps are scaled to their own largest value. Deletion: mean fake probability while the hottest cells are blurred away "
        "(lower is more faithful); insertion: while they are given back (higher is). In brackets: the same in random order, and "
        "the mask's share of the area. Differences to these with 95 % intervals over faces: where the "
        f"interval holds 0, or one face gives none, stands{NO_BETTER}: there the map is not shown to differ from chance."
    )
    return Section("Heat maps", words, ["heatmaps.png"], ["Faces and maps"], columns, summary(rows))


def _parser() -> argparse.ArgumentParser:
    from analysis.reporting.tool import add_datasets, tool_parser

    parser = tool_parser(__doc__)
    add_datasets(parser)
    parser.add_argument("--faces", type=whole(1), default=6, help="faces in the figure (default 6)")
    parser.add_argument(
        "--measure", type=whole(0), default=24, help="faces that faithfulness is measured on (default 24)"
    )
    parser.add_argument("--seed", type=whole(0, MOST_SEED), default=0, help="of the random order")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    arguments = _parser().parse_args(argv)
    from analysis.reporting.sections import folder_of
    from analysis.reporting.tool import conclude, test_set_of, trained_of
    from common.errors import DataError
    from common.progress import Progress
    from prediction.trained import videos

    trained = trained_of(arguments, "with_mask=true")
    loader = test_set_of(arguments, trained)
    source = Progress(videos(loader), "videos", len(loader.index))
    explained = explain(trained.detector, pick(source, max(arguments.faces, arguments.measure)))
    if not any(entry["maps"] for entry in explained):
        raise DataError(
            f"{trained.config.model_name} has no layer with places, no attention and no map of its own to show"
        )
    rows = faithfulness(trained.detector, explained[: arguments.measure], arguments.seed)
    folder = folder_of(trained.path, "gradcam")
    section = _write(folder, explained, arguments.faces, rows)
    for line in summary(rows):
        print("{}: deletion {} {}, insertion {} {}, inside mask {} {}, {} fakes".format(*line))
    print(folder / "heatmaps.png")
    conclude(trained, "gradcam", section)
    return 0


if __name__ == "__main__":
    run(main)
