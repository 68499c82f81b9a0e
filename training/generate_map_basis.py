"""Fit FFD's manipulation appearance model: mean and principal components of the forgery masks of a training set.

    python training/generate_map_basis.py --train_dataset FaceForensics++ --output training/pretrained/map_basis.npz

The file is what `map_basis` of ffd.yaml names when `maptype` is `mam`.
"""

import argparse
from pathlib import Path

from common.cli import add_common, add_set, run, whole

DEFAULT = Path(__file__).parent / "config" / "detector" / "ffd.yaml"


def parser() -> argparse.ArgumentParser:
    """Return the command line's definition."""
    p = argparse.ArgumentParser(description="Fit mean and principal components of a training set's forgery masks.")
    p.add_argument("--detector_path", default=str(DEFAULT), metavar="YAML", help="detector YAML (default: FFD's)")
    p.add_argument("--train_dataset", nargs="+", metavar="NAME", help="datasets whose masks are read")
    p.add_argument("--output", required=True, metavar="NPZ", help="where to write")
    p.add_argument(
        "--masks", type=whole(), default=100, metavar="N", help="masks per manipulation (default: the paper's 100)"
    )
    add_set(p)
    add_common(p)
    return p


def main() -> None:
    """Read masks, fit, write."""
    args = parser().parse_args()
    import json

    import numpy as np

    from common.errors import ConfigError
    from common.io import atomic_path
    from training.config import load_config
    from training.dataset.index.selection import load_index
    from training.detectors.ffd_detector import FfdConfig, map_size
    from training.detectors.parts.ffd.manipulation_map import fit_appearance

    if args.masks < 2:
        raise ConfigError(f"--masks {args.masks}: a mean and its components need at least 2 masks per manipulation")
    overrides = [f"train_dataset={json.dumps(args.train_dataset)}"] if args.train_dataset else []
    config = load_config(args.detector_path, overrides + list(args.set or []))
    if not isinstance(config, FfdConfig):
        raise ConfigError(
            f"{args.detector_path} configures {config.model_name}; the appearance model is FFD's: name its YAML"
        )
    if not config.train_dataset:
        raise ConfigError("train_dataset is empty; name at least one dataset in the YAML or with --train_dataset")
    masks = read_masks(
        config, load_index(config, config.train_dataset, "train"), args.masks, map_size(config.resolution)
    )
    mean, basis = fit_appearance(masks, config.map_components)
    with atomic_path(args.output) as temporary, open(temporary, "wb") as file:
        np.savez(file, mean=mean, basis=basis)
    print(f"{len(masks)} masks of {mean.shape[0]}x{mean.shape[1]}, {len(basis)} components: {args.output}")


def read_masks(config, index, per_method: int, size: int):
    """Return `(N, size, size)` float32 masks in [0, 1]: up to so many per manipulation, spread over its videos."""
    import cv2
    import numpy as np

    from common.errors import DataError
    from training.dataset.recipes.recipe import frame_draws
    from training.dataset.sampling import spread
    from training.dataset.storage import forgery_mask, open_storage

    storages = [open_storage(config, name) for name in index.datasets]
    rows = frame_draws(index, config.frame_num.train)
    found = []
    for method in sorted(set(index.method[index.label == 1].tolist())):
        own = rows[(index.method[rows[:, 0]] == method) & (index.label[rows[:, 0]] == 1)]
        for video, position in own[spread(len(own), per_method)]:
            mask = forgery_mask(storages[index.dataset[video]], index, int(video), int(position))
            if mask is None:  # nobody recorded it
                continue
            found.append(cv2.resize(mask.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA))
    if len(found) < 2:
        raise DataError("the training split holds fewer than two forgery masks; preprocess a dataset that has masks")
    return np.stack(found)


if __name__ == "__main__":
    run(main)
