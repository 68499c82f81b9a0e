"""Train a detector on some datasets and test it on others.

    python training/train.py --detector_path training/config/detector/clip_ln.yaml \\
        --train_dataset FaceForensics++ --test_dataset Celeb-DF-v2 DFDCP
"""

import argparse

from common.cli import MOST_SEED, add_common, add_set, run, whole


def parser() -> argparse.ArgumentParser:
    """Return the command line's definition."""
    p = argparse.ArgumentParser(
        description="Train a detector and test it on datasets it never saw.",
        epilog="Every key of the YAML can be given as --set key=value, for example --set optimizer.adam.lr=1e-4. "
        "Order, weakest first: built-in defaults, train_config.yaml, the detector's YAML, the command line. "
        "Several GPUs: bash train.sh --detector_path ...",
    )
    p.add_argument("--detector_path", metavar="YAML", help="detector YAML (default: the demo's, and a line says so)")
    p.add_argument("--train_dataset", nargs="+", metavar="NAME", help="datasets to train on")
    p.add_argument("--test_dataset", nargs="+", metavar="NAME", help="datasets to test on after training")
    p.add_argument(
        "--hold_out", nargs="+", metavar="METHOD", help="labels of fakes that training and validation never see (FF-NT)"
    )
    p.add_argument("--no-save_ckpt", dest="no_save_ckpt", action="store_true", help="write no checkpoints")
    p.add_argument(
        "--no-save_feat", dest="no_save_feat", action="store_true", help="write no features of the test sets"
    )
    p.add_argument(
        "--ddp", action="store_true", help="insist on being one of several processes (torchrun tells them apart)"
    )
    p.add_argument("--local_rank", "--local-rank", type=int, default=None, help=argparse.SUPPRESS)
    p.add_argument("--task_target", metavar="WORD", help="a word added to the run directory's name")
    p.add_argument(
        "--resume", metavar="auto|PATH", help="continue from a checkpoint; auto: the newest of --log_dir, if any"
    )
    p.add_argument("--max_steps", type=whole(), metavar="N", help="stop after N steps")
    p.add_argument("--log_dir", metavar="DIR", help="the run directory itself (default: logs/<detector>/<time>)")
    p.add_argument("--seed", type=whole(0, MOST_SEED), metavar="N", help="manualSeed")
    p.add_argument("--device", metavar="cpu|cuda", help="default: a GPU where there is one")
    p.add_argument(
        "--print_config", action="store_true", help="print every key with its value and where it comes from, and end"
    )
    add_set(p)
    add_common(p)
    return p


def main() -> None:
    """Parse, train, test, report."""
    args = parser().parse_args()
    from training.session import print_config, train

    if args.print_config:
        print_config(args, "train")
    else:
        train(args)


if __name__ == "__main__":
    run(main)
