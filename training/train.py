"""Train a detector on some datasets and test it on others.

    python training/train.py --detector_path training/config/detector/clip_ln.yaml \\
        --train_dataset FaceForensics++ --test_dataset Celeb-DF-v2 DFDCP
"""

import argparse
from pathlib import Path

from common.cli import MOST_SEED, add_common, add_set, run, whole

DEFAULT = Path(__file__).parent / "config" / "detector" / "demo.yaml"


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
    add_set(p)
    add_common(p)
    return p


def main() -> None:
    """Parse, build, train, test, report."""
    args = parser().parse_args()
    from training.config import load_config
    from training.session import overrides_from
    from training.trainer import distributed
    from training.trainer.journal import log, open_log

    open_log(None)
    config = load_config(args.detector_path or str(DEFAULT), overrides_from(args))
    process = distributed.start(args.device, args.ddp)
    if args.detector_path is None and process.main:
        log.info(
            "no --detector_path: this trains the demo, %s on %s%s; for another, --detector_path "
            "training/config/detector/<name>.yaml (python -m training.detectors lists them)",
            config.model_name,
            ", ".join(config.train_dataset),
            "" if args.train_dataset else ", synthetic faces that `make demo-data` renders",
        )
    try:
        _train(args, config, process)
    finally:
        distributed.stop()


def _train(args, config, process) -> None:
    from common.rundir import RunDir, new_run_dir
    from training import session as runs
    from training.trainer.checkpoint import check_resumable, newest_checkpoint
    from training.trainer.journal import log, open_log

    if args.resume == "auto" and not args.log_dir:
        from common.errors import ConfigError

        raise ConfigError("--resume auto needs --log_dir, the run directory to look in")
    train, val, note = runs.training_loaders(config, process)
    tests = runs.test_loaders(config, train.info, process) if config.test_dataset else {}
    folder = RunDir(
        process.broadcast(new_run_dir(args.log_dir, Path(config.log_dir, config.model_name), config.task_target).path)
    )
    # All of this before anything is written: wrong weights leave no run directory behind, and a run there as it was.
    resume_from = process.broadcast(newest_checkpoint(args.resume, folder) if process.main else None)
    detector = runs.make_detector(config, train.info, process, pretrained=resume_from is None)
    if resume_from is not None:
        check_resumable(resume_from, detector)
    if process.main:
        folder.take()
        open_log(folder.path / "train.log")
        log.info("run directory: %s", folder.path)
    else:
        open_log(None, quiet=True)
    try:
        _train_there(detector, config, process, folder, (train, val, note), tests, resume_from)
    finally:
        folder.release()


def _train_there(detector, config, process, folder, training, tests, resume_from) -> None:
    from training import session as runs
    from training.config import config_text
    from training.trainer.journal import log
    from training.trainer.trainer import Trainer

    train, val, note = training
    if process.main:
        folder.write_config(config_text(config))
    trainer = Trainer(detector, config, process, folder, train, val)
    if resume_from is not None:
        trainer.resume(resume_from)
    log.info("checkpoint selection: %s", note)
    trainer.fit()
    if not tests:
        trainer.conclude({})
        log.info("no test_dataset is named; training ends here")
        return
    if config.save_ckpt and trainer.best is not None:
        process.barrier()
        detector.load_weights(folder.best)
    metrics = runs.evaluate_all(detector, tests, config, process, folder)
    if process.main:
        trainer.conclude(metrics)
        chosen = folder.last if trainer.best is None else folder.best
        if trainer.best is None and val is not None:
            note = "no validation score of this run is known; the last checkpoint is the result"
        if config.save_ckpt:
            runs.conclude(folder, config, metrics, chosen, runs.selection(config, trainer.best, note))
        else:
            unkept = runs.selection(config, None, "no checkpoint was kept; the weights of the last step were tested")
            runs.conclude(folder, config, metrics, None, unkept)


if __name__ == "__main__":
    run(main)
