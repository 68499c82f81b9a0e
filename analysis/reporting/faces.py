"""Cut the example sheets of a test set into faces for the report."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from common.errors import DataError
from common.io import read_json
from common.style import map_title

# The evaluator's groups hold extremes, whichever side of 0.5 they fall on; a good detector's "fake, called real" are
# only its least sure fakes, so the heading says no more than that.
HEADINGS = {
    "fake, called real": "Fakes with the lowest scores",
    "real, called fake": "Reals with the highest scores",
    "fake, called fake": "Fakes with the highest scores",
    "real, called real": "Reals with the lowest scores",
}


def example_groups(folder: Path, dataset: str) -> dict[str, Any] | None:
    """Return the faces of `<folder>/examples.png`, sorted as `examples.json` says; None when there are none.

    A sheet without its JSON is shown whole.

    Returns:
        `{"name", "groups": [{"title", "map", "faces": [{"src", "alt", "caption"}]}]}`.
    """
    sheet_path, list_path = folder / "examples.png", folder / "examples.json"
    if not sheet_path.exists():
        return None
    from PIL import Image

    try:
        sheet = Image.open(sheet_path).convert("RGB")
    except OSError as error:
        raise DataError(f"cannot read {sheet_path}: {error}; test the run again") from error
    if not list_path.exists():
        face = {"src": jpeg_uri(sheet), "alt": f"examples of {dataset}", "caption": ""}
        return {"name": dataset, "groups": [{"title": "", "map": "image", "faces": [face]}]}
    layout = read_json(list_path)
    # Maps of the same faces come in rows of their own; one row of a group says which faces they are.
    tiles = {row["group"]: row["tiles"] for row in layout["rows"] if "tiles" in row}
    groups: list[dict[str, Any]] = []
    for number, row in enumerate(layout["rows"]):
        shown = enumerate(tiles.get(row["group"], []))
        faces = [_face(sheet, number, column, layout["tile"], tile, row) for column, tile in shown]
        heading = HEADINGS.get(row["group"], row["group"])
        title = heading if row["map"] == "image" else f"{heading}: {map_title(row['map'])}"
        groups.append({"title": title, "map": row["map"], "faces": faces})
    return {"name": dataset, "groups": [group for group in groups if group["faces"]]}


def _face(sheet: Any, row: int, column: int, side: int, tile: dict, description: dict) -> dict[str, str]:
    picture = sheet.crop((column * side, row * side, (column + 1) * side, (row + 1) * side))
    name = "/".join(str(tile["video"]).split("/")[1:]) or str(tile["video"])
    heading = HEADINGS.get(description["group"], description["group"])
    alt = f"{heading}: {tile['video']}, frame {tile['frame']}, fake probability {tile['prob']:.2f}"
    caption = f"{tile['prob']:.2f} · {name}, frame {tile['frame']}" if description["map"] == "image" else ""
    return {"src": jpeg_uri(picture), "alt": alt, "caption": caption}


def jpeg_uri(picture: Any, quality: int = 88) -> str:
    """Return a PIL image as a `data:` address."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
