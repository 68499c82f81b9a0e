"""Write the JSON index of a preprocessed dataset, the one that training and DeepfakeBench read.

python preprocessing/rearrange.py --dataset_name FaceForensics++ --dataset_root_path datasets/rgb
"""

import argparse

from common.cli import add_common, run


def parser() -> argparse.ArgumentParser:
    """Return the command line's definition; what is left out comes from config.yaml."""
    p = argparse.ArgumentParser(description="Write the JSON index of a preprocessed dataset.")
    p.add_argument("--dataset_name", metavar="NAME", help="the dataset, also the index's name")
    p.add_argument(
        "--dataset_root_path", metavar="DIR", help="the folder that contains the dataset's folder (or that folder)"
    )
    p.add_argument("--output_file_path", metavar="DIR", help="where <dataset>.json goes")
    p.add_argument("--layout", metavar="NAME", help="the dataset is laid out like this one; `custom`: real/ and fake/")
    p.add_argument("--comp", metavar="raw|c23|c40|all", help="index only this compression (default: all on disk)")
    p.add_argument("--perturbation", metavar="NAME", help="DeeperForensics-1.0: one of its eleven sets")
    p.add_argument(
        "--as-deepfakebench", action="store_true", help="write exactly what DeepfakeBench writes, its faults included"
    )
    p.add_argument(
        "--check",
        action="store_true",
        help="write nothing: count the videos that are here against the disk, the manifest, the dataset's own lists and what "
        "was published; exit code 1 when some are missing",
    )
    p.add_argument("--config", metavar="YAML", help="defaults (default: preprocessing/config.yaml)")
    add_common(p)
    return p


def main(argv: list[str] | None = None) -> int:
    """Parse, index, write."""
    arguments = vars(parser().parse_args(argv))
    arguments.pop("debug")
    config, faithful, check = (arguments.pop(name) for name in ("config", "as_deepfakebench", "check"))
    from preprocessing.options import choose
    from preprocessing.run_rearrange import rearrange

    # DeepfakeBench's `comp` is written in its file but never read: every compression on disk is indexed.
    said = arguments.pop("comp")
    options = choose({**arguments, "comp": None}, config, "rearrange") | {"comp": said}
    report = rearrange(**options, as_deepfakebench=faithful, check=check)
    return 1 if check and report.missing else 0


if __name__ == "__main__":
    run(main)
