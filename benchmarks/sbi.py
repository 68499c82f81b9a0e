"""Self-blended images: the recipe `sbi` beside the same blends written plainly, from files and from a packed database.

Both read the same 256-pixel faces with their landmarks and make the pairs of `sbi.yaml` at 256 pixels, augmentation included, in
this process, one after the other, with one thread; pairs a second are of CPU time, so that they are those of one core whatever
else it does. The plain version works in floating point over whole pictures, one step after the other, as the paper tells it.
Agreement is the largest difference of a pixel when both are given the same choices and the same elastic field.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any

import cv2
import numpy as np

from benchmarks import row

SIZE = 256
NAME = "Faces"
YAML = Path(__file__).parents[1] / "training" / "config" / "detector" / "sbi.yaml"


def run(quick: bool = False) -> list[dict]:
    """Return a row for PNG files and one for a database packed with `raw`."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            write_faces(Path(folder), 4 if quick else 16)
            return [compare(Path(folder), lmdb, 5 if quick else 150) for lmdb in (False, True)]
    finally:
        cv2.setNumThreads(threads)


def compare(folder: Path, lmdb: bool, pairs: int) -> dict:
    """Time both on as many pairs, several times in turn; compare their blends."""
    from training.config import load_config
    from training.dataset import build_loader
    from training.dataset.sampling import sample_rng

    places = {"rgb_dir": folder / "rgb", "lmdb_dir": folder / "lmdb", "dataset_json_folder": folder}
    sets = [f"{key}={value}" for key, value in places.items()]
    fixed = [
        f"train_dataset=[{NAME}]",
        "compression=c23",
        f"resolution={SIZE}",
        "workers=0",
        "label_dict={Faces_real: 0}",
    ]
    loader = build_loader(load_config(YAML, [*sets, *fixed, f"lmdb={str(lmdb).lower()}"], quiet=True), "train")
    rows, _ = loader.draws()
    work: dict[str, Callable[..., Any]] = {
        "ours": loader.recipe.load,
        "reference": partial(plain_pair, loader.recipe),
    }
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for repeat in range(4):
        for name, load in work.items():
            start = process_time()
            for number in range(pairs if repeat else 4):
                load(rows[number % len(rows)], loader.reader, sample_rng(0, repeat, number))
            if repeat:
                seconds[name].append(process_time() - start)
    ours, reference = (pairs / statistics.median(seconds[name]) for name in ("ours", "reference"))
    stored = "a database of codec raw" if lmdb else "PNG files"
    return row(f"pairs of {SIZE} px from {stored}, one core", "pairs/s", ours, reference, agreement(loader, rows))


def agreement(loader: Any, rows: np.ndarray) -> str:
    """Return the largest and the mean difference of a blend between both, under the same choices and fields."""
    from training.dataset.recipes.blending import elastic_field

    recipe, worst = loader.recipe, 0
    strength = recipe.options.elastic_sigma, recipe.options.elastic_alpha
    means: list[float] = []
    for number in range(24):
        raw = loader.reader.raw(*map(int, rows[number % len(rows)][:2]), landmark=True)
        choice = recipe.choose(np.random.default_rng(number), SIZE, SIZE)
        part = choice.size[1] / 256
        field = elastic_field(choice.noise, *choice.size, *(value * part for value in strength))
        ours = recipe.mix(raw["image"], raw["landmark"], choice)[1]
        plain = plain_mix(raw["image"], raw["landmark"], choice, recipe.options, lambda *_, field=field: field)[1]
        difference = np.abs(ours.astype(int) - plain)
        worst = max(worst, int(difference.max()))
        means.append(float(difference.mean()))
    return f"max |Δ| {worst} of 255, mean {np.mean(means):.1e}"


def plain_pair(recipe: Any, draw: np.ndarray, reader: Any, rng: np.random.Generator) -> list[np.ndarray]:
    """Return target and blend, as `recipe.load` makes them, by the plain steps."""
    from training.dataset.recipes.look import draw_look

    raw = reader.raw(int(draw[0]), int(draw[1]), landmark=True)
    plan, shared = reader.plan(rng), draw_look(recipe.options.shared, rng)
    choice = recipe.choose(rng, SIZE, SIZE)
    pictures = plain_mix(raw["image"], raw["landmark"], choice, recipe.options, partial(plain_field, rng))
    return [reader.finish({"image": plain_look(picture, shared)}, plan)["image"] for picture in pictures]


def plain_field(rng: np.random.Generator, height: int, width: int, sigma: float, alpha: float) -> np.ndarray:
    """Return an elastic field from noise in every pixel."""
    noise = rng.uniform(-1, 1, (2, height, width))
    return np.stack([cv2.GaussianBlur(part, (0, 0), sigma) * alpha for part in noise])


def plain_mix(
    image: np.ndarray, points: np.ndarray, c: Any, options: Any, field_of: Callable[..., np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return target and blend, step by step over whole pictures in floating point."""
    from training.dataset.recipes.blending import face_mask

    height, width = image.shape[:2]
    source = plain_look(image, c.look) if c.on_source else image.copy()
    target = image.copy() if c.on_source else plain_look(image, c.look)
    source = cv2.warpAffine(source, c.move, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    points = (points if c.forehead else points[:68]) @ c.move[:, :2].T + c.move[:, 2]
    points = (points + 0.5) * [c.size[1] / width, c.size[0] / height] - 0.5
    mask: np.ndarray = face_mask(points, c.shape, *c.size).astype(np.float64)
    part = c.size[1] / 256
    field = field_of(*c.size, options.elastic_sigma * part, options.elastic_alpha * part)
    y, x = np.mgrid[: c.size[0], : c.size[1]]
    mask = cv2.remap(mask, (x + field[0]).astype(np.float32), (y + field[1]).astype(np.float32), cv2.INTER_NEAREST)
    soft = cv2.GaussianBlur(mask, (c.shrink, c.shrink), 0)
    soft[soft < soft.max() * (1 - 1e-9)] = 0  # only where the whole kernel lies inside
    soft = cv2.GaussianBlur((soft > 0).astype(np.float64), (c.blur, c.blur), c.sigma)
    alpha = (cv2.resize(soft / soft.max(), (width, height)) * c.ratio)[..., None]
    mixed = alpha * source.astype(np.float64) + (1 - alpha) * target.astype(np.float64)
    return target, mixed.round().clip(0, 255).astype(np.uint8)


def plain_look(image: np.ndarray, look: Any) -> np.ndarray:
    """Return the picture with a look, one change after the other in floating point."""
    changed = (image.astype(np.float64) + look.rgb) * (1 + look.contrast) + 255 * look.brightness
    picture = changed.round().clip(0, 255).astype(np.uint8)
    if any(look.hsv):
        hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV).astype(np.float64) + look.hsv
        hsv[..., 0] %= 180
        picture = cv2.cvtColor(hsv.clip(0, 255).astype(np.uint8), cv2.COLOR_HSV2RGB)
    if look.shrink:
        small = cv2.resize(picture, None, fx=1 / look.shrink, fy=1 / look.shrink, interpolation=cv2.INTER_NEAREST)
        picture = cv2.resize(small, picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    if look.sharpen:
        kernel = np.full((3, 3), -1.0)
        kernel[1, 1] = 8 + look.lift
        sharp = cv2.filter2D(picture.astype(np.float64), -1, kernel, borderType=cv2.BORDER_REFLECT_101)
        mixed = (1 - look.sharpen) * picture + look.sharpen * sharp
        picture = mixed.round().clip(0, 255).astype(np.uint8)
    return picture


def write_faces(folder: Path, count: int) -> None:
    """Write so many frames of an invented person with landmarks, their index, and the database."""
    frames = folder / "rgb" / NAME / "frames" / "one"
    landmarks = folder / "rgb" / NAME / "landmarks" / "one"
    frames.mkdir(parents=True)
    landmarks.mkdir(parents=True)
    for number, picture in enumerate(_pictures(folder, count)):
        cv2.imwrite(str(frames / f"{number:03d}.png"), picture)
        np.save(landmarks / f"{number:03d}.npy", _landmarks())
    listed = [f"{NAME}/frames/one/{number:03d}.png" for number in range(count)]
    video = {"label": "Faces_real", "frames": listed}
    (folder / f"{NAME}.json").write_text(json.dumps({NAME: {"Faces_real": {"train": {"one": video}}}}))
    _pack(folder)


def _pack(folder: Path) -> None:
    """Write the database that `to_lmdb.py --codec raw` makes of the files."""
    import lmdb

    from preprocessing.lmdb_pack import Form, encoded, landmark_bytes

    place = folder / "lmdb" / f"{NAME}_lmdb"
    place.mkdir(parents=True)
    with lmdb.open(str(place), map_size=1 << 28) as database, database.begin(write=True) as transaction:
        for path in sorted((folder / "rgb").rglob("*.*")):
            value = landmark_bytes(path) if path.suffix == ".npy" else encoded(path, Form("raw"))
            transaction.put(path.relative_to(folder / "rgb").as_posix().encode(), value)


def _pictures(folder: Path, count: int) -> list[np.ndarray]:
    """Return BGR pictures of 256 pixels with a film's texture."""
    import av

    from preprocessing.demo.build import QUICK, jobs, paths
    from preprocessing.demo.build import run as film

    job = jobs(QUICK, 0)[0]
    film(job, folder)
    with av.open(str(folder / paths(job)[0])) as video:
        found = [frame.to_ndarray(format="bgr24") for frame in video.decode(video=0)]
    sides = (SIZE, SIZE)
    return [np.asarray(cv2.resize(found[i % len(found)], sides, interpolation=cv2.INTER_CUBIC)) for i in range(count)]


def _landmarks() -> np.ndarray:
    """Return 81 points where an aligned face has them, roughly: what the masks' shapes need."""
    turn = np.linspace(np.pi, 0, 17)
    jaw = np.column_stack([0.5 + 0.33 * np.cos(turn), 0.45 + 0.45 * np.sin(turn)])
    brows = [np.column_stack([np.linspace(a, b, 5), np.full(5, 0.3)]) for a, b in ((0.24, 0.43), (0.57, 0.76))]
    ridge = np.column_stack([np.full(4, 0.5), np.linspace(0.38, 0.55, 4)])
    nostrils = np.column_stack([np.linspace(0.43, 0.57, 5), np.full(5, 0.6)])
    around = np.linspace(0, 2 * np.pi, 6, endpoint=False)
    eyes = [np.column_stack([x + 0.06 * np.cos(around), 0.4 + 0.025 * np.sin(around)]) for x in (0.35, 0.65)]
    around = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    mouth = np.column_stack([0.5 + 0.13 * np.cos(around), 0.73 + 0.05 * np.sin(around)])
    turn = np.linspace(np.pi, 2 * np.pi, 13)
    forehead = np.column_stack([0.5 + 0.33 * np.cos(turn), 0.35 + 0.28 * np.sin(turn)])
    return (np.concatenate([jaw, *brows, ridge, nostrils, *eyes, mouth, forehead]) * SIZE).round()
