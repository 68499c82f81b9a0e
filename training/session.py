"""What train.py and test.py share: put together a detector, its loaders and a run directory, evaluate, report."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from common.errors import ConfigError, DataError
from common.io import read_json, write_json
from common.rundir import RunDir
from common.wording import about_training, remarks
from training.config.schema import Config
from training.dataset import DataInfo, build_loader
from training.dataset.index.selection import load_index
from training.dataset.loader import Loader, has_split
from training.detectors import build_detector
from training.detectors.base import Detector
from training.trainer import results
from training.trainer.checkpoint import fingerprint, own_content
from training.trainer.distributed import Process
from training.trainer.environment import describe_environment
from training.trainer.evaluator import predict

log = logging.getLogger("clipdeepfake")


def overrides_from(args: Any) -> list[str]:
    """Return the flags that have a key of their own, and `--set`, as `key=value` texts."""
    import json

    keys = {"train_dataset": args.__dict__.get("train_dataset"), "test_dataset": args.test_dataset}
    keys |= {"manualSeed": args.seed, "task_target": args.__dict__.get("task_target") or None}
    keys |= {"max_steps": args.__dict__.get("max_steps"), "save_feat": False if args.no_save_feat else None}
    keys |= {"save_ckpt": False if args.__dict__.get("no_save_ckpt") else None}
    said = [f"{key}={json.dumps(value)}" for key, value in keys.items() if value is not None]
    return said + list(args.set or [])


def training_loaders(config: Config, process: Process) -> tuple[Loader, Loader | None, str]:
    """Return the training loader, the validation loader or None, and a sentence on what selects the checkpoint.

    Validation videos that are also trained on or tested are left out, under whatever dataset name: scores on the former say
    nothing, and selecting on the latter would be selecting on the test.
    """
    if not config.train_dataset:
        raise ConfigError("train_dataset is empty; name at least one dataset in the YAML or with --train_dataset")
    ranks = {"rank": process.rank, "world_size": process.world_size}
    train = build_loader(config, "train", **ranks)
    missing = _absent(train)
    if missing and not (missing == "fake" and train.recipe.makes_fakes):
        raise DataError(
            f"{', '.join(config.train_dataset)}: the train split holds no {missing} video, and nothing can be learned from one "
            "class; add a dataset that has them to train_dataset"
        )
    wanted = config.val_dataset or config.train_dataset
    having = [name for name in wanted if has_split(config, name, "val")]
    if not having:
        if config.val_dataset:
            raise DataError(f"val_dataset {', '.join(wanted)} has no `val` split; name a dataset that has one, or null")
        return train, None, "no validation split exists; the last checkpoint is the result"
    tested = {
        f"are in the test set {name} too": load_index(config, [name], "test", train.info)
        for name in config.test_dataset
    }
    listed = sum(len(load_index(config, [name], "val", train.info)) for name in having)
    val = build_loader(_images_only(config), "val", having, data_info=train.info, apart_from=tested, **ranks)
    left_out = listed - len(val.index)  # not of the loader: a process may have no batch of a small set
    why = f"{left_out} of {listed} validation videos are trained on or stand in a test set and are left out"
    missing = _absent(val)
    if missing and left_out:
        rest = f"the others are all {'fake' if missing == 'real' else 'real'}" if len(val.index) else "none is left"
        return train, None, f"{why}, {rest}; the last checkpoint is the result"
    if missing:
        raise DataError(
            f"{', '.join(having)}: the validation split holds no {missing} video, and no checkpoint can be chosen by one class; "
            "name a dataset that has both with val_dataset"
        )
    note = f"best {config.metric_level} {config.metric_scoring} on the validation split of {', '.join(having)}"
    return train, val, f"{note} ({why})" if left_out else note


def _absent(loader: Loader) -> str | None:
    """Return `real` or `fake` where a split holds no video of it."""
    labels = loader.index.label_counts()
    return next((word for word, label in (("real", 0), ("fake", 1)) if not labels[label]), None)


def _images_only(config: Config) -> Config:
    """Return the configuration of loaders that a detector only predicts on: masks and landmarks are for training.

    So a detector taught with masks is tested on datasets that never had any.
    """
    return config.model_copy(update={"with_mask": False, "with_landmark": False})


def make_detector(config: Config, info: DataInfo | None, process: Process, pretrained: bool) -> Detector:
    """Build the detector from the run's seed, the same on every process, on its device."""
    import torch

    torch.manual_seed(config.manualSeed)
    return build_detector(config, data_info=info, pretrained=pretrained).to(process.device)


def test_loaders(config: Config, info: DataInfo | None, process: Process) -> dict[str, Loader]:
    """Return a loader per test set, all of them checked before the first is run; sets of one class are named."""
    if not config.test_dataset:
        raise ConfigError("test_dataset is empty; name at least one dataset in the YAML or with --test_dataset")
    loaders, ranks = {}, {"rank": process.rank, "world_size": process.world_size}
    for name in config.test_dataset:
        loader = build_loader(_images_only(config), "test", name, data_info=info, **ranks)
        if not len(loader.index):
            raise DataError(
                f"{name}: its test split holds no video; look at its index, or leave it out of test_dataset"
            )
        if missing := _absent(loader):
            log.warning(
                "%s: its test split holds no %s video; what needs both classes, AUC first of all, is absent from its figures",
                name,
                missing,
            )
        loaders[name] = loader
    return loaders


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
        found[name] = results.score(predictions, config, name, one_class=True)
        results.write_dataset(run.results / name, predictions, found[name], config.save_feat)
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
    training = {key: getattr(config, key) for key in ("train_dataset", "data_note")}
    training |= {key: value for key, value in own.get("config", {}).items() if key in training}
    summary = {
        "detector": config.model_name,
        "weights": name,
        "fingerprint": digest,
        **training,
        "selection": selection or earlier.get("selection") or _selection_of(weights, own, config),
        "datasets": {**kept, **metrics},
        "environment": describe_environment(),
    }
    write_json(run.results / "results.json", summary)
    from analysis.report import write_report

    report = write_report(run.path)
    if training["data_note"]:
        log.info("%s", about_training(training["data_note"]))
    for level in ("frame", "video"):
        log.info("\n%s", results.table(metrics, level))
    for sentence in remarks(metrics):
        log.info("%s", sentence)
    log.info("\nresults: %s\nreport:  %s", run.results / "results.json", report)


def selection(config: Config, best: dict[str, Any] | None, note: str) -> dict[str, Any]:
    """Say what the weights under test were chosen by: `best` of the trainer, None where it was no validation score."""
    if best is None:
        return {"split": "last", "note": note}
    return {"split": "val", "metric": config.metric_scoring, "level": config.metric_level, **best, "note": note}


def _selection_of(weights: Path | None, own: dict[str, Any], config: Config) -> dict[str, Any]:
    """Say the same of a run's own checkpoint, which tells it."""
    best = own.get("best") if weights and weights.name == "best.pth" else None
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
    path = run.results / "results.json"
    if not path.exists():
        return {}
    try:
        before = read_json(path)
    except DataError as error:
        log.warning("%s; it is written anew", error)
        return {}
    if digest and isinstance(before, dict) and before.get("fingerprint") == digest:
        return before
    there = before.get("datasets", {}) if isinstance(before, dict) else {}
    log.warning(
        "%s held results of other weights or settings (%s); they are replaced", path, ", ".join(there) or "no dataset"
    )
    results.remove_sets(run.results, keep=set(metrics))
    sections = sorted((run.path / "analysis").glob("*/section.json"))
    for section in sections:
        section.unlink()
    if sections:
        told = ", ".join(section.parent.name for section in sections)
        log.warning("the report no longer shows what was made of them (%s); run those tools again", told)
    return {}
