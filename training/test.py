"""Test a detector's weights on one or more datasets.

    python training/test.py --detector_path training/config/detector/clip_ln.yaml \\
        --weights_path training/weights/clip_ln.pth --test_dataset Celeb-DF-v2 DFDCP
    python training/test.py --detector_path logs/clip_ln/2026-01-01-12-00-00
"""

import argparse
from pathlib import Path

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
    p.add_argument("--no-save_feat", dest="no_save_feat", action="store_true", help="write no features")
    p.add_argument(
        "--log_dir", metavar="DIR", help="where results go (default: the run directory, or logs/<detector>/<time>)"
    )
    p.add_argument("--ddp", action="store_true", help="insist on being one of several processes")
    p.add_argument("--local_rank", "--local-rank", type=int, default=None, help=argparse.SUPPRESS)
    p.add_argument("--seed", type=whole(0, MOST_SEED), metavar="N", help="manualSeed (bootstrap intervals)")
    p.add_argument("--device", metavar="cpu|cuda", help="default: a GPU where there is one")
    add_set(p)
    add_common(p)
    return p


def main() -> None:
    """Parse, build, test, report."""
    args = parser().parse_args()
    from common.errors import WeightsError
    from common.rundir import RunDir, new_run_dir
    from training import session as runs
    from training.config import config_text, load_config
    from training.trainer import distributed
    from training.trainer.checkpoint import data_info_of
    from training.trainer.journal import open_log

    open_log(None)
    source = Path(args.detector_path)
    tested_run = (
        RunDir(source if source.is_dir() else source.parent)
        if source.name == "config.yaml" or source.is_dir()
        else None
    )
    config = load_config(tested_run.config if tested_run else source, runs.overrides_from(args), mode="test")
    weights = args.weights_path
    if weights is None and tested_run:
        weights = next((path for path in (tested_run.best, tested_run.last) if path.exists()), None)
    if weights is None:
        raise WeightsError(f"no weights to test: give --weights_path ({args.detector_path} carries none)")
    process = distributed.start(args.device, args.ddp)
    try:
        info = data_info_of(weights)
        detector = runs.make_detector(config, info, process, pretrained=False)
        detector.load_weights(weights)
        loaders = runs.test_loaders(config, info, process)
        log_dir = args.log_dir or (str(tested_run.path) if tested_run else None)
        parent = Path(config.log_dir, config.model_name)
        folder = RunDir(process.broadcast(new_run_dir(log_dir, parent, config.task_target, "test").path))
        if process.main:
            folder.take()
            open_log(folder.path / "test.log")
            if not folder.config.exists():
                folder.write_config(config_text(config))
        else:
            open_log(None, quiet=True)
        metrics = runs.evaluate_all(detector, loaders, config, process, folder)
        if process.main:
            given = {"split": None, "note": "weights were given"} if args.weights_path else None
            runs.conclude(folder, config, metrics, Path(weights), given)
            folder.release()
    finally:
        distributed.stop()


if __name__ == "__main__":
    run(main)
