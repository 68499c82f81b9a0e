"""How training samples are made. A recipe is one file, `<name>_recipe.py`, with one class under `@register_recipe`.

A *draw* is a row of integers: the unit of shuffling, of sharing between processes and of skipping. `draws` returns all rows
of an epoch, `load` turns one of them into one sample per role, and `collate` makes a batch of them, role by role. What a
recipe may rely on, and must keep:

* All that `load` needs is in its row, its generator, and what `__init__` and the first call of `draws` left on `self`: worker
  processes live for the whole run, and see no later change of `self`. What differs from epoch to epoch goes into the rows.
* Whatever is random comes from the generator that `load` is given, or, for choices over all rows at once, from
  `sampling.draws_rng(seed, epoch)`. A sample then depends on (seed, epoch, position) and on nothing else.
* A sample is a dictionary: `image` `(H, W, 3)` (or `(T, H, W, 3)`) uint8 and the keys of `FrameReader.labels`, `frame`, and
  where asked `mask` and `landmark`. A fake's mask that nobody recorded is empty, and counts in no loss. Arrays under further
  keys are stacked as they are; `empty` must then name them too.
* All samples of a recipe have the same keys. What cannot be read is a DataError: never another sample in its place.

`FrameReader.frame` gives a finished sample; those who paint on stored pixels take `raw`, and pass the result to `finish`. A
recipe's own keys are the pydantic model `Options`, filled from the YAML's `recipe`. A detector's file may bring the recipe
itself; it is then named like the detector, which `dataset_type: blend` also means.

A minimal recipe::

    @register_recipe
    class EveryFrameTwice(Recipe):
        roles = 2                                  # collate gives all of role 0, then all of role 1

        def draws(self, seed, epoch):              # (N, k) integers; the first is the video
            return frame_draws(self.index, self.frame_num)

        def load(self, draw, reader, rng):         # one sample per role
            return [reader.frame(*draw, rng), reader.frame(*draw, rng)]
"""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

import numpy as np
import pydantic

from common.by_name import Folder, nearest
from common.errors import ConfigError
from training.batch import PIXELS, Batch, Sample, empty_batch, stack_batch
from training.config.legacy import legacy
from training.config.schema import Config, Section
from training.dataset.augmentation import Augmentation, Plan
from training.dataset.index.selection import Index, frames_wanted
from training.dataset.resizing import resize
from training.dataset.sampling import spread_each
from training.dataset.storage import Storage, forgery_mask

R = TypeVar("R", bound="type[Recipe]")
_RECIPES = Folder("training.dataset.recipes", "recipe", "_recipe")


class NoOptions(Section):
    """A recipe without keys of its own."""


class FrameReader:
    """Reads frames of an index with what belongs to them, resized and augmented.

    Args:
        index: the videos.
        storages: one per dataset of the index.
        config: resolution, masks, landmarks and augmentation.
        augment: whether to augment (training).
    """

    def __init__(self, index: Index, storages: list[Storage], config: Config, augment: bool):
        self.index, self.storages, self.config = index, storages, config
        self.augmentation = Augmentation(config.data_aug, rescale=not config.with_landmark) if augment else None

    def storage(self, video: int) -> Storage:
        """Return where a video's frames lie."""
        return self.storages[self.index.dataset[video]]

    def plan(self, rng: np.random.Generator | None) -> Plan | None:
        """Draw an augmentation plan, for those who share one between frames; None where nothing is augmented."""
        return self.augmentation.plan(rng) if self.augmentation and rng is not None else None

    def raw(self, video: int, position: int, landmark: bool = False, mask: bool = False) -> Sample:
        """Return a stored frame as it is: `image` RGB `(H, W, 3)`, and where asked `landmark` (81 or 68, 2) and `mask` (H, W).

        A fake's mask that nobody recorded is empty, which `loss.masked.known_masks` tells from a known one.
        """
        storage = self.storage(video)
        path, number = self.index.frame(video, position)
        image = storage.read_image(path)
        sample: Sample = {"image": image, "frame": number}
        if landmark:
            sample["landmark"] = storage.read_landmark(self.index.landmark(video, position))
        if mask:
            found = forgery_mask(storage, self.index, video, position)
            sample["mask"] = np.zeros(image.shape[:2], np.uint8) if found is None else found
        return sample

    def frame(
        self, video: int, position: int, rng: np.random.Generator | None = None, plan: Plan | None = None
    ) -> Sample:
        """Return a finished sample of one frame: see `finish` and `labels`."""
        raw = self.raw(video, position, self.config.with_landmark, self.config.with_mask)
        return {**self.finish(raw, plan or self.plan(rng)), **self.labels(video), "frame": raw["frame"]}

    def finish(self, sample: Sample, plan: Plan | None) -> Sample:
        """Resize `image`, `mask` and `landmark` to the configured resolution and augment them together.

        In that order, so that kernels and JPEG's blocks have the size that their keys say, whatever was stored.
        """
        done: Sample = {key: sample[key] for key in PIXELS if key in sample}
        size = self.config.resolution
        if done["image"].shape[:2] != (size, size):
            resize(done, size, plan.interpolation if plan is not None else None)
        if plan is None or self.augmentation is None:
            return done
        done["image"] = self.augmentation.image(done["image"], plan)
        if "mask" in done:
            done["mask"] = self.augmentation.mask(done["mask"], plan)
        if "landmark" in done:
            done["landmark"] = self.augmentation.landmark(done["landmark"], plan, size, size)
        return done

    def labels(self, video: int) -> Sample:
        """Return what is known of a video: label, method, unique name, identities and domain."""
        index = self.index
        return {
            "label": int(index.label[video]),
            "method": int(index.method[video]),
            "video": index.video_id(video),
            "target_id": int(index.target[video]),
            "source_id": int(index.source[video]),
            "domain": int(index.domain[video]),
        }


class Recipe:
    """Base of recipes: validates the recipe's own keys and collates."""

    name: ClassVar[str] = ""
    roles: ClassVar[int] = 1
    # Whether it makes fakes out of real faces, so that a training set without fakes will do.
    makes_fakes: ClassVar[bool] = False
    Options: ClassVar[type[Section]] = NoOptions

    def __init__(self, config: Config, index: Index, split: str = "train"):
        self.config, self.index, self.split = config, index, split
        try:
            self.options: Any = self.Options.model_validate(config.recipe)
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, ("recipe", *first["loc"])))
            known = ", ".join(self.Options.model_fields) or "none"
            raise ConfigError(f"{key}: {first['msg']}; keys of the recipe `{self.name}`: {known}") from None

    @property
    def frame_num(self) -> int:
        """Frames wanted per video in this split."""
        return frames_wanted(self.config, self.split)

    def draws(self, seed: int, epoch: int) -> np.ndarray:
        """Return `(N, k)` integers, one row per draw, in an order that depends on nothing; the loader shuffles."""
        raise NotImplementedError

    def load(self, draw: np.ndarray, reader: FrameReader, rng: np.random.Generator | None) -> list[Sample]:
        """Return the samples of one draw, one per role. `rng` is None where nothing may be random (evaluation)."""
        raise NotImplementedError

    def too_short(self) -> list[str]:
        """Return the videos that give no draw because they have too few frames."""
        return []

    def describe(self, draw: np.ndarray) -> str:
        """Return the video that a draw is about, for messages."""
        return self.index.video_id(int(draw[0]))

    def collate(self, loaded: list[list[Sample]]) -> Batch:
        """Return a flat, role-major batch of the samples of several draws."""
        samples = [draw[role] for role in range(self.roles) for draw in loaded]
        return stack_batch(samples, self.roles)

    def empty(self) -> Batch:
        """Return a batch of no samples, for a process whose share could not be read."""
        config = self.config
        clip = config.clip_size if config.video_mode else None
        return empty_batch(config.resolution, clip, config.with_mask, config.with_landmark, self.roles)


def frame_draws(index: Index, wanted: int) -> np.ndarray:
    """Return `(N, 2)` int32 rows (video, position): frames spread evenly over every video."""
    return np.stack(spread_each(index.frames, wanted), axis=1)


_REGISTRY: dict[str, type[Recipe]] = {}


def register_recipe(cls: R) -> R:
    """Register the recipe of a file `<name>_recipe.py`, or one that a detector's file brings, under that file's name."""
    stem = cls.__module__.rpartition(".")[2]
    cls.name = stem.removesuffix(_RECIPES.suffix).removesuffix("_detector")
    _REGISTRY[cls.name] = cls
    return cls


def available_recipes() -> list[str]:
    """Return the names of the recipes in this folder."""
    return list(_RECIPES.names)


def recipe_class(config: Config) -> type[Recipe]:
    """Return the recipe that the configuration means.

    `dataset_type` null: `frames`, or `clips` with `video_mode`. `blend`, the field's word for "whatever this detector
    blends": the recipe named like the detector.

    Raises:
        ConfigError: there is no such recipe; names those there are.
    """
    name = config.dataset_type or ("clips" if config.video_mode else "frames")
    if name == "blend":
        name = config.model_name
    name = legacy()["dataset_type"].get(name, name)
    if name not in _REGISTRY and name in _RECIPES.names:
        _RECIPES.module(name)
    if name not in _REGISTRY:
        raise ConfigError(f"dataset_type: there is no recipe `{name}`; {nearest(name, _RECIPES.names)}")
    return _REGISTRY[name]
