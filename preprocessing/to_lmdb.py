"""Pack a preprocessed dataset into one LMDB database, which trains faster than millions of files.

python preprocessing/to_lmdb.py --dataset_name FaceForensics++ --dataset_root_path datasets/rgb --codec png
"""

import argparse

from common.cli import add_common, run, whole


def parser() -> argparse.ArgumentParser:
    """Return the command line's definition; what is left out comes from config.yaml."""
    p = argparse.ArgumentParser(description="Pack a preprocessed dataset into one LMDB database.")
    p.add_argument("--dataset_name", metavar="NAME", help="the dataset")
    p.add_argument(
        "--dataset_root_path", metavar="DIR", help="the folder that contains the dataset's folder (or that folder)"
    )
    p.add_argument("--output_lmdb_dir", metavar="DIR", help="where <dataset>_lmdb goes")
    p.add_argument("--layout", metavar="NAME", help="the dataset is laid out like this one")
    p.add_argument(
        "--codec", metavar="png|webp|jpeg|raw", help="how images are stored (default: png; webp is lossless here)"
    )
    p.add_argument("--quality", type=whole(), metavar="1-100", help="of jpeg (default: 95)")
    p.add_argument(
        "--keys", metavar="posix|deepfakebench", help="slashes or DeepfakeBench's backslashes (default: posix)"
    )
    p.add_argument("--verify", metavar="sample|all", help="how much is decoded again in the end (default: sample)")
    p.add_argument("--comp", metavar="raw|c23|c40|all", help="pack only this compression (default: all on disk)")
    p.add_argument("--max_pixels", type=whole(1), metavar="N", help="refuse larger pictures (default: 64000000)")
    p.add_argument("--dataset_size", help=argparse.SUPPRESS)  # DeepfakeBench wants it; here the map grows by itself
    p.add_argument("--config", metavar="YAML", help="defaults (default: preprocessing/config.yaml)")
    add_common(p)
    return p


def main(argv: list[str] | None = None) -> int:
    """Parse and pack."""
    arguments = vars(parser().parse_args(argv))
    arguments.pop("debug")
    arguments.pop("dataset_size")
    config, comp = arguments.pop("config"), arguments.pop("comp")
    from preprocessing.lmdb_pack import to_lmdb
    from preprocessing.options import choose

    # As in rearrange.py, the `comp` of DeepfakeBench's file has no effect there: all of the dataset is packed.
    to_lmdb(**choose({**arguments, "comp": None}, config, "to_lmdb") | {"comp": comp})
    return 0


if __name__ == "__main__":
    run(main)
