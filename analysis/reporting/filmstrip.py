"""Maps over the frames of clips: for each clip a strip of its frames, and under it a strip for each map over them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

SHOWN = 8  # frames of a clip at most


def filmstrip(explained: list[dict[str, Any]], stem: Path) -> list[Path]:
    """Draw clips as `analysis.gradcam.explain` describes them: `image` `(T, 3, H, W)`, maps and `mask` `(T, H, W)`.

    Of longer clips, frames spread evenly over them are shown; all frames of a map share one scale.
    """
    from common import style
    from training.dataset.sampling import spread

    lines: list[tuple[dict[str, Any], str]] = []
    for entry in explained:
        masked = ["true mask"] if entry["mask"] is not None else []
        lines += [(entry, name) for name in ("clip", *masked, *entry["maps"])]
    columns = max(min(SHOWN, len(entry["image"])) for entry in explained)
    with style.figure(1.1 * columns + 0.6, 1.15 * len(lines) + 0.3, len(lines), columns, squeeze=False) as (
        drawing,
        grid,
    ):
        for axes in grid.flat:
            axes.set(xticks=[], yticks=[])
            axes.grid(False)
            axes.spines[:].set_visible(False)
        for (entry, name), row in zip(lines, grid):
            for axes, place in zip(row, spread(len(entry["image"]), SHOWN)):
                axes.imshow(entry["image"][place].transpose(1, 2, 0))
                if name == "true mask":
                    axes.imshow(entry["mask"][place], cmap="gray", vmin=0, vmax=1)
                elif name != "clip":
                    heat = entry["maps"][name][place]
                    axes.imshow(heat, cmap="inferno", alpha=0.6, vmin=0, vmax=1, interpolation="bilinear")
                if name == "clip":
                    axes.set_title(f"{place + 1} of {len(entry['image'])}", fontsize=8, loc="center")
            kind = "fake" if entry["video"].label else "real"
            row[0].set_ylabel(
                f"{kind}, p = {entry['prob']:.2f}" if name == "clip" else style.map_title(name), fontsize=8
            )
        return style.save(drawing, stem)


def over_time(heat: np.ndarray) -> np.ndarray:
    """Return the map `(H, W)` that ranks the places of a clip's map `(T, H, W)`: the mean over time; an image's as it is."""
    return heat.mean(axis=0) if heat.ndim == 3 else heat
