"""A training and a test from beginning to end: what `train.py` and `test.py` do once their command line is read."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import Any, Literal

import torch

from analysis.report import write_report
from common.errors import ConfigError, DataError, WeightsError
from common.io import read_json, write_json
from common.rundir import RunDir, new_run_dir, run_meant
from common.wording import about_training, remarks, shortfalls
from training.config import CONFIG_DIR, config_text, load_config
from training.config.origins import annotated
from training.config.schema import Config
from training.dataset import DataInfo
from training.dataset.loader import Loader
from training.detectors import build_detector
from training.detectors.base import Detector
from training.trainer import distributed, results
from training.trainer.checkpoint import check_resumable, fingerprint, newest_checkpoint, own_content
from training.trainer.distributed import Process
from training.trainer.environment import describe_environment
from training.trainer.evaluator import predict
from training.trainer.journal import open_log
from training.trainer.loaders import test_loaders, training_loaders
from training.trainer.rebuild import rebuild
from training.trainer.trainer import Trainer

log = logging.getLogger("clipdeepfake")
DEMO = CONFIG_DIR / "detector" / "demo.yaml"


def train(args: argparse.Namespace) -> None:
    """Train as the command line of `train.py` says, test the result, write the report."""
    open_log(None)
    if args.resume == "auto" and not args.log_dir:
        raise ConfigError("--resume auto needs --log_dir, the run directory to look in")
    config = load_config(args.detector_path or DEMO, overrides_from(args))
    process = distributed.start(args.device, args.ddp)
    if args.detector_path is None and process.main:
        _say_that_it_is_the_demo(config, args.train_dataset is not None)
    try:
        _train(args, config, process)
    finally:
        distributed.stop()


def _train(args: argparse.Namespace, config: Config, process: Process) -> None:
    # All of this before anything is written: wrong data or weights leave no run directory behind, and a run there as it was.
    train_loader, val_loader, note = training_loaders(config, process)
    tests = test_loaders(config, train_loader.info, process) if config.test_dataset else {}
    run = _run_dir(args.log_dir, config, process)
    resume_from = process.broadcast(newest_checkpoint(args.resume, run) if process.main else None)
    detector = make_detector(config, train_loader.info, process, pretrained=resume_from is None)
    if resume_from is not None:
        check_resumable(resume_from, detector)
    _take(run, config, process, "train", keep_config=False)
    try:
        trainer = Trainer(detector, config, process, run, train_loader, val_loader)
        if resume_from is not None:
            trainer.resume(resume_from)
        log.info("checkpoint selection: %s", note)
        trainer.fit()
        _test_trained(trainer, tests, note)
    finally:
        run.release()


def _test_trained(trainer: Trainer, tests: dict[str, Loader], note: str) -> None:
    """Test the weights that a training ended with: the best by validation, else the last."""
    config, process, run, best = trainer.config, trainer.process, trainer.run, trainer.best
    if not tests:
        trainer.conclude({})
        log.info("no test_dataset is named; training ends here")
        return
    if config.save_ckpt and best is not None:
        process.barrier()
        trainer.detector.load_weights(run.best)
    metrics = evaluate_all(trainer.detector, tests, config, process, run)
    if not process.main:
        return
    trainer.conclude(metrics)
    if best is None and trainer.val_loader is not None:
        note = "no validation score of this run is known; the last checkpoint is the result"
    if config.save_ckpt:
        conclude(run, config, metrics, run.last if best is None else run.best, selection(config, best, note))
    else:
        unkept = selection(config, None, "no checkpoint was kept; the weights of the last step were tested")
        conclude(run, config, metrics, None, unkept)


def test(args: argparse.Namespace) -> None:
    """Test as the command line of `test.py` says, and write the report."""
    open_log(None)
    source = run_meant(args.detector_path)
    config = load_config(source.config if source else args.detector_path, overrides_from(args), mode="test")
    weights = args.weights_path or (source.weights if source else None)
    if weights is None:
        raise WeightsError(f"no weights to test: give --weights_path ({args.detector_path} carries none)")
    process = distributed.start(args.device, args.ddp)
    try:
        rebuilt = rebuild(config, weights, process.device)
        loaders = test_loaders(config, rebuilt.info, process)
        run = _run_dir(args.log_dir or (str(source.path) if source else None), config, process, "test")
        _take(run, config, process, "test", keep_config=True)
        metrics = evaluate_all(rebuilt.detector, loaders, config, process, run)
        if process.main:
            given = {"split": None, "note": "weights were given"} if args.weights_path else None
            conclude(run, config, metrics, Path(weights), given)
            run.release()
    finally:
        distributed.stop()


test.__test__ = False  # type: ignore[attr-defined]  # of pytest's business it is none


def print_config(args: argparse.Namespace, mode: Literal["train", "test"]) -> None:
    """Print the configuration that the command line means, each value with its origin."""
    source = run_meant(args.detector_path) if mode == "test" else None
    print(annotated(source.config if source else args.detector_path or DEMO, overrides_from(args), mode), end="")


def _say_that_it_is_the_demo(config: Config, own_data: bool) -> None:
    log.info(
        "no --detector_path: this trains the demo, %s on %s%s; for another, --detector_path "
        "training/config/detector/<name>.yaml (python -m training.detectors lists them)",
        config.model_name,
        ", ".join(config.train_dataset),
        "" if own_data else ", synthetic faces that `make demo-data` renders",
    )


def _run_dir(given: str | None, config: Config, process: Process, word: str | None = None) -> RunDir:
    """Return the run directory, the same on every process."""
    parent = Path(config.log_dir, config.model_name)
    return RunDir(process.broadcast(new_run_dir(given, parent, config.task_target, word).path))


def _take(run: RunDir, config: Config, process: Process, program: str, keep_config: bool) -> None:
    """Hold the run directory on the main process, open its log there, and write the configuration."""
    if not process.main:
        open_log(None, quiet=True)
        return
    run.take()
    open_log(run.log_file(program))
    log.info("run directory: %s", run.path)
    if not (keep_config and run.config.exists()):
        run.write_config(config_text(config))


def overrides_from(args: Any) -> list[str]:
    """Return the flags that have a key of their own, and `--set`, as `key=value` texts."""
    keys = {"train_dataset": args.__dict__.get("train_dataset"), "test_dataset": args.test_dataset}
    keys["hold_out"] = args.__dict__.get("hold_out")
    keys |= {"manualSeed": args.seed, "task_target": args.__dict__.get("task_target") or None}
    keys |= {"max_steps": args.__dict__.get("max_steps"), "save_feat": False if args.no_save_feat else None}
    keys |= {"save_ckpt": False if args.__dict__.get("no_save_ckpt") else None}
    keys["missing"] = args.__dict__.get("missing")
    said = [f"{key}={json.dumps(value)}" for key, value in keys.items() if value is not None]
    return said + list(args.set or [])


def make_detector(config: Config, info: DataInfo | None, process: Process, pretrained: bool) -> Detector:
    """Build the detector from the run's seed, the same on every process, on its device."""
    torch.manual_seed(config.manualSeed)
    return build_detector(config, data_info=info, pretrained=pretrained).to(process.device)


def evaluate_all(
    detector: Detector, loaders: dict[str, Loader], config: Config, process: Process, run: RunDir
) -> dict[str, dict[str, Any]]:
    """Evaluate every test set, write its files, and return the metrics by dataset (empty except on rank 0)."""
    found = {}
    for name, loader in loaders.items():
        predictions = predict(
            detector,
            loader,
            process,
            title=name,
            precision=config.precision,
            save_feat=config.save_feat,
            examples=True,
        )
        if predictions is None:
            continue
        known = results.Known.of(loader.index, name, detector.data_info, loader.too_short)
        found[name] = results.score(predictions, config, name, one_class=True, known=known)
        results.write_dataset(run.of(name), predictions, found[name], config.save_feat, loader.too_short)
        if predictions.skipped:
            log.warning(
                "%s: %d samples could not be read; see results/%s/skipped.txt", name, len(predictions.skipped), name
            )
    process.barrier()
    return found


def conclude(
    run: RunDir,
    config: Config,
    metrics: dict[str, dict[str, Any]],
    weights: Path | None,
    selection: dict[str, Any] | None = None,
) -> None:
    """Write results.json and report.html, and show the tables.

    Datasets that the same weights were tested on before, with the same settings, stay beside the new ones.

    Args:
        weights: the file that was tested; None where none was kept.
        selection: what the weights were chosen by; None: what was said of these weights before, else what they say.
    """
    digest = fingerprint(config, weights) if weights else None
    own = own_content(weights) if weights else {}
    earlier = _earlier_results(run, digest, metrics)
    kept = {name: found for name, found in earlier.get("datasets", {}).items() if name not in metrics}
    if kept:
        log.info("kept beside what is new, of the same weights and settings: %s", ", ".join(kept))
    name = "of the last step (not kept)"
    if weights:
        inside = weights.resolve().is_relative_to(run.path.resolve())
        name = str(weights.resolve().relative_to(run.path.resolve()) if inside else weights)
    # What weights were trained on, they know better than the settings that they are tested with.
    training = {key: getattr(config, key) for key in ("train_dataset", "data_note", "hold_out")}
    training |= {key: value for key, value in own.get("config", {}).items() if key in training}
    summary = {
        "detector": config.model_name,
        "weights": name,
        "fingerprint": digest,
        **training,
        "selection": selection or earlier.get("selection") or _selection_of(weights, own, run, config),
        "crops": (own.get("data_info") or {}).get("crops") or None,
        "datasets": {**kept, **metrics},
        "environment": describe_environment(),
    }
    write_json(run.results_file, summary)
    report = write_report(run.path)
    if training["data_note"]:
        log.info("%s", about_training(training["data_note"]))
    for level in ("frame", "video"):
        log.info("\n%s", results.table(metrics, level))
    if kinds := results.by_manipulation(metrics, training["hold_out"]):
        log.info("\n%s", kinds)
    short = shortfalls(metrics)
    for sentence in remarks(metrics):
        (log.warning if sentence in short else log.info)("%s", sentence)
    log.info("\nresults: %s\nreport:  %s", run.results_file, report)


def selection(config: Config, best: dict[str, Any] | None, note: str) -> dict[str, Any]:
    """Say what the weights under test were chosen by: `best` of the trainer, None where it was no validation score."""
    if best is None:
        return {"split": "last", "note": note}
    return {"split": "val", "metric": config.metric_scoring, "level": config.metric_level, **best, "note": note}


def _selection_of(weights: Path | None, own: dict[str, Any], run: RunDir, config: Config) -> dict[str, Any]:
    """Say the same of a run's own checkpoint, which tells it."""
    best = own.get("best") if weights and weights.name == run.best.name else None
    told = (
        f"best {config.metric_level} {config.metric_scoring} on validation"
        if best
        else "the last checkpoint of the run"
    )
    return selection(config, best, told)


def _earlier_results(run: RunDir, digest: str | None, metrics: dict[str, Any]) -> dict[str, Any]:
    """Return a run directory's results.json where it is of the weights and settings with this digest.

    Else return nothing, and take away what it told of: the files of test sets that are not among the new `metrics`, and the
    analyses of those results that the report would show.
    """
    path = run.results_file
    if not path.exists():
        return {}
    try:
        before = read_json(path)
    except DataError as error:
        log.warning("%s; it is written again", error)
        return {}
    if digest and isinstance(before, dict) and before.get("fingerprint") == digest:
        return before
    there = before.get("datasets", {}) if isinstance(before, dict) else {}
    log.warning(
        "%s held results of other weights or settings (%s); they are replaced", path, ", ".join(there) or "no dataset"
    )
    run.remove_tests(keep=set(metrics))
    sections = run.sections()
    for section in sections:
        section.unlink()
    if sections:
        told = ", ".join(section.parent.name for section in sections)
        log.warning("the report no longer shows what was made of them (%s); run those tools again", told)
    return {}
