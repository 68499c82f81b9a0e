"""The loaders of a run: what trains, what chooses the checkpoint, what is tested, each checked before anything is written."""

from __future__ import annotations

import logging

from common.coverage import differing_crops
from common.errors import ConfigError, DataError
from training.config.schema import Config
from training.dataset import DataInfo, build_loader
from training.dataset.index.selection import load_index
from training.dataset.index.videos import Index
from training.dataset.loader import Loader, has_split
from training.trainer.distributed import Process

log = logging.getLogger("clipdeepfake")


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
            f"class; {_remedy(config, missing) or 'add a dataset that has them to train_dataset'}"
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
            f"{_remedy(config, missing) or 'name a dataset that has both with val_dataset'}"
        )
    note = f"best {config.metric_level} {config.metric_scoring} on the validation split of {', '.join(having)}"
    return train, val, f"{note} ({why})" if left_out else note


def crops_note(index: Index, dataset: str, info: DataInfo | None) -> str:
    """Return a sentence where a test set's faces were cut otherwise than those of every training set; empty if unknown."""
    own = index.coverage[dataset].crops
    trained = list(info.crops.values()) if info is not None else []
    if own is None or not trained or any(not differing_crops(own, crops) for crops in trained):
        return ""
    return (
        f"{dataset}: its faces were cut otherwise than the training's, which stand in brackets: "
        f"{', '.join(differing_crops(own, trained[0]))}; its figures are of that, too. Preprocess it again like the training set"
    )


def _absent(loader: Loader) -> str | None:
    """Return `real` or `fake` where a split holds no video of it."""
    labels = loader.index.label_counts()
    return next((word for word, label in (("real", 0), ("fake", 1)) if not labels[label]), None)


def _remedy(config: Config, missing: str) -> str:
    """Return what to do where the configuration itself left a class out; empty where it did not."""
    held = missing == "fake" and config.hold_out
    return f"hold_out leaves out {', '.join(config.hold_out)}, which is all there are: hold out fewer" if held else ""


def _images_only(config: Config) -> Config:
    """Return the configuration of loaders that a detector only predicts on: masks and landmarks are for training.

    So a detector taught with masks is tested on datasets that never had any.
    """
    return config.model_copy(update={"with_mask": False, "with_landmark": False})


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
        if note := crops_note(loader.index, name, info):
            log.warning("%s", note)
        loaders[name] = loader
    return loaders
