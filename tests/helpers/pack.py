"""A tiny data pack of exactly the field's shape: FF++ tree, JSON index, and the same as LMDB with Windows keys."""

import json
from pathlib import Path

import cv2
import numpy as np

VIDEOS = {
    "FF-real": {"train": ["071", "054", "100"], "val": ["720"], "test": ["953", "974"]},
    "FF-DF": {"train": ["071_054", "054_071", "100_101"], "val": ["720_672"], "test": ["953_974", "974_953"]},
    "FF-NT": {"train": ["071_054"], "val": ["720_672"], "test": ["953_974"]},
}
FOLDERS = {
    "FF-real": "original_sequences/youtube/c23",
    "FF-DF": "manipulated_sequences/Deepfakes/c23",
    "FF-NT": "manipulated_sequences/NeuralTextures/c23",
}


def picture(seed: str, frame: int, size: int, fake: bool) -> np.ndarray:
    """Return a BGR image that a small network can tell real from fake by: fakes carry a bright square."""
    rng = np.random.default_rng([sum(map(ord, seed)), frame])
    image = cv2.resize(rng.integers(40, 160, (6, 6, 3), dtype=np.uint8), (size, size), interpolation=cv2.INTER_CUBIC)
    if fake:
        a, b = size // 4, size // 2
        image[a:b, a:b] = 255
    return image


def write_pack(
    root: Path, frames: int = 4, size: int = 32, style: str = "datasets", name: str = "FaceForensics++", videos=VIDEOS
) -> dict:
    """Write `root/rgb`, `root/json/<name>.json`; return the config keys that read them.

    `style` of the paths in the index: `datasets` (`./datasets/...`), `windows` (backslashes), `plain`, `absolute`.
    """
    index: dict = {name: {}}
    for label, splits in videos.items():
        for split, ids in splits.items():
            for video in ids:
                folder = f"{name}/{FOLDERS[label]}"
                entry: dict = {"label": label, "frames": []}
                for frame in range(frames):
                    number = f"{frame * 7:03d}"
                    path = root / "rgb" / folder / "frames" / video / f"{number}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    fake = label != "FF-real"
                    cv2.imwrite(str(path), picture(video + label, frame, size, fake))
                    entry["frames"].append(_styled(path, root / "rgb", style))
                    points = np.stack([np.linspace(2, size - 3, 81), np.linspace(3, size - 2, 81)], axis=1)
                    landmark = root / "rgb" / folder / "landmarks" / video / f"{number}.npy"
                    landmark.parent.mkdir(parents=True, exist_ok=True)
                    np.save(landmark, points.round())
                    if fake:
                        mask = np.zeros((size, size), np.uint8)
                        mask[size // 4 : size // 2, size // 4 : size // 2] = 255
                        mask_path = root / "rgb" / folder / "masks" / video / f"{number}.png"
                        mask_path.parent.mkdir(parents=True, exist_ok=True)
                        cv2.imwrite(str(mask_path), mask)
                        entry.setdefault("masks", []).append(_styled(mask_path, root / "rgb", style))
                index[name].setdefault(label, {}).setdefault(split, {}).setdefault("c23", {})[video] = entry
    (root / "json").mkdir(exist_ok=True)
    (root / "json" / f"{name}.json").write_text(json.dumps(index))
    return {"rgb_dir": str(root / "rgb"), "dataset_json_folder": str(root / "json"), "lmdb_dir": str(root / "lmdb")}


def _styled(path: Path, rgb: Path, style: str) -> str:
    relative = path.relative_to(rgb).as_posix()
    return {
        "datasets": f"./datasets/{relative}",
        "windows": relative.replace("/", "\\"),
        "plain": relative,
        "absolute": str(path),
    }[style]


def write_lmdb(root: Path, windows: bool = True) -> None:
    """Write the pack's files into `root/lmdb/FaceForensics++_lmdb` with the field's keys and landmark bytes."""
    import lmdb

    folder = root / "lmdb" / "FaceForensics++_lmdb"
    folder.mkdir(parents=True)
    with lmdb.open(str(folder), map_size=1 << 28) as environment, environment.begin(write=True) as transaction:
        for path in sorted((root / "rgb").rglob("*.*")):
            key = path.relative_to(root / "rgb").as_posix()
            key = key.replace("/", "\\") if windows else key
            value = np.load(path).astype(np.uint32).tobytes() if path.suffix == ".npy" else path.read_bytes()
            transaction.put(key.encode(), value)
