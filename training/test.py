"""Test a detector's weights on one or more datasets.

    python training/test.py --detector_path training/config/detector/clip_ln.yaml \\
        --weights_path training/weights/clip_ln.pth --test_dataset Celeb-DF-v2 DFDCP
    python training/test.py --detector_path logs/clip_ln/2026-01-01-12-00-00
"""

import argparse

from common.cli import MOST_SEED, add_common, add_set, run, whole


def parser() -> argparse.ArgumentParser:
    """Return the command line's definition."""
    p = argparse.ArgumentParser(
        description="Test a detector: frame and video metrics with intervals, predictions, features and a report.",
        epilog="Every key of the YAML can be given as --set key=value.",
    )
    p.add_argument(
        "--detector_path", required=True, metavar="YAML|RUN", help="detector YAML, or a run directory to test again"
    )
    p.add_argument("--test_dataset", nargs="+", metavar="NAME", help="datasets to test on")
    p.add_argument(
        "--weights_path", metavar="FILE", help="weights (default for a run directory: its best, else its last)"
    )
    p.add_argument(
        "--missing",
        choices=("exclude", "chance"),
        help="videos of a test set without a score (no face, unreadable, absent) are left out (default), or count with the "
        "score of a coin: certainly fake or certainly real, each half of the time, as it comes out in expectation",
    )
    p.add_argument("--no-save_feat", dest="no_save_feat", action="store_true", help="write no features")
    p.add_argument(
        "--log_dir", metavar="DIR", help="where results go (default: the run directory, or logs/<detector>/<time>)"
    )
    p.add_argument("--ddp", action="store_true", help="insist on being one of several processes")
    p.add_argument("--local_rank", "--local-rank", type=int, default=None, help=argparse.SUPPRESS)
    p.add_argument("--seed", type=whole(0, MOST_SEED), metavar="N", help="manualSeed (bootstrap intervals)")
    p.add_argument("--device", metavar="cpu|cuda", help="default: a GPU where there is one")
    p.add_argument(
        "--print_config", action="store_true", help="print every key with its value and where it comes from, and end"
    )
    add_set(p)
    add_common(p)
    return p


def main() -> None:
    """Parse, test, report."""
    args = parser().parse_args()
    from training.session import print_config, test

    if args.print_config:
        print_config(args, "test")
    else:
        test(args)


if __name__ == "__main__":
    run(main)
