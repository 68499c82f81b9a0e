"""Find, for every real training face, the faces of other people that stand most like it, for Face X-ray's blends.

    python training/dataset/generate_xray_nearest.py --train_dataset FaceForensics++

Training does this by itself when the file is not there; the command makes it beforehand, or for another place.
"""

import argparse
from pathlib import Path

from common.cli import add_common, add_set, run, whole

DEFAULT = Path(__file__).parents[1] / "config" / "detector" / "facexray.yaml"


def parser() -> argparse.ArgumentParser:
    """Return the command line's definition."""
    p = argparse.ArgumentParser(description="Find every real training face's nearest faces in landmark space.")
    p.add_argument(
        "--detector_path", default=str(DEFAULT), metavar="YAML", help="detector YAML (default: Face X-ray's)"
    )
    p.add_argument("--train_dataset", nargs="+", metavar="NAME", help="datasets whose real faces are compared")
    p.add_argument("--num_neighbors", type=whole(1), metavar="K", help="neighbours kept per face (default: the YAML's)")
    p.add_argument("--output", metavar="NPZ", help="where to write (default: beside the index, where training looks)")
    add_set(p)
    add_common(p)
    return p


def main() -> None:
    """Read landmarks, search, write."""
    args = parser().parse_args()
    import json
    import logging
    import time

    from common.errors import ConfigError, DataError
    from training.config import load_config
    from training.dataset.index.selection import load_index
    from training.dataset.recipes.facexray_recipe import FaceXray
    from training.dataset.recipes.nearest import neighbours_of
    from training.dataset.storage import open_storage

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    overrides = [f"train_dataset={json.dumps(args.train_dataset)}"] if args.train_dataset else []
    if args.num_neighbors is not None:
        overrides.append(f"recipe.neighbours={args.num_neighbors}")
    config = load_config(args.detector_path, overrides + list(args.set or []))
    if not config.train_dataset:
        raise ConfigError("train_dataset is empty; name at least one dataset in the YAML or with --train_dataset")
    recipe = FaceXray(config, load_index(config, config.train_dataset, "train"))
    if not len(recipe.faces):
        raise DataError(
            f"{', '.join(config.train_dataset)}: the training split holds no real video; name one that does"
        )
    start = time.perf_counter()
    storages = [open_storage(config, name) for name in config.train_dataset]
    found = neighbours_of(recipe.index, storages, recipe.faces, recipe.options.neighbours)
    output = args.output or recipe.cache
    found.save(output)
    seconds = time.perf_counter() - start
    print(f"{len(found.rows)} faces, {found.rows.shape[1]} neighbours each, {seconds:.1f} s: {output}")


if __name__ == "__main__":
    run(main)
