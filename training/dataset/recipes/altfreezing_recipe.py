"""AltFreezing's fake clips: recorded ones, and three kinds that are made of real clips (Wang et al., CVPR 2023, section 3.3).

    drop     some successive frames are left out: the clip jumps
    repeat   a frame is shown again and again: the clip halts
    blend    another person's clip, moved frame by frame onto the face's landmarks, is blended in; the mask is the hull of these
             landmarks, deformed and softened alike in all frames, so that nothing but the border tells it

Role 0 is a real clip, role 1 a fake: a recorded one, or for `made` of the pairs one of these kinds, of the same real clip. What
`data_aug` does is drawn once for a clip. `mask` marks what is blended in; of a clip that jumps or halts none is known.

What differs from the paper: it does not say how many frames are dropped or repeated, nor how often (here 1 to `most`, and half
of the fakes). A real video without frames to spare repeats one where it should drop some.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from common.errors import DataError
from training.batch import Sample
from training.config.schema import Pair, Probability, Section
from training.dataset.recipes.blending import blend, deform, face_similarity, hull_mask, match_colour, soften, warp
from training.dataset.recipes.clips_recipe import Clips
from training.dataset.recipes.recipe import FrameReader, register_recipe
from training.dataset.sampling import draws_rng

Kind = Literal["drop", "repeat", "blend"]
KINDS: tuple[Kind, ...] = ("drop", "repeat", "blend")


class AltFreezingOptions(Section):
    """How fakes are made."""

    made: Probability = Field(
        0.5, description="share of the fakes that are made of real clips; all where none are recorded"
    )
    kinds: Annotated[list[Kind], Field(min_length=1)] = Field(list(KINDS), description="drawn evenly")
    most: int = Field(8, ge=1, le=4096, description="largest number of frames dropped or repeated")
    deformation: float = Field(
        0.04, ge=0, le=0.5, description="largest shift of the mask's 4×4 lattice, share of the side"
    )
    blur: Pair = Field([5, 45], description="limits of the mask's Gaussian kernel, pixels of a 256-pixel crop")


def dropped(first: int, size: int, frames: int, at: int, count: int) -> np.ndarray | None:
    """Return the positions of a clip that leaves out `count` frames before its step `at` (1 … size − 1).

    Fewer where the video of `frames` has fewer to spare; it begins earlier where it would run over the end. None where there
    are none to spare.
    """
    count = min(count, frames - size)
    steps = np.arange(size)
    return min(first, frames - size - count) + steps + count * (steps >= at) if count > 0 else None


def repeated(first: int, size: int, at: int, count: int) -> np.ndarray:
    """Return the positions of a clip whose step `at` is shown `count` times more, while those behind it wait."""
    steps = np.arange(size)
    return first + steps - (steps - at).clip(0, count)


@register_recipe
class AltFreezing(Clips):
    """A draw is (real video, first position, fake video, first position, kind, other real video, first position).

    The kind is a number of `KINDS`; −1 where the fake is recorded. What a draw does not need is −1.
    """

    roles = 2
    makes_fakes = True
    Options = AltFreezingOptions

    def draws(self, seed: int, epoch: int) -> np.ndarray:
        rows, label = super().draws(seed, epoch)[:, :2], self.index.label
        real, fake = (rows[label[rows[:, 0]] == value] for value in (0, 1))
        if not len(real):
            raise DataError(
                "the recipe `altfreezing` needs real videos in the training split; add datasets to train_dataset"
            )
        rng, options = (
            draws_rng(seed, epoch + (1 << 20)),
            self.options,
        )  # the clips' places have the epoch's own numbers
        count = max(len(real), len(fake))
        own, recorded = real[rng.permutation(count) % len(real)], np.full((count, 2), -1)
        if len(fake):
            recorded = fake[np.arange(count) % len(fake)]
        made = np.zeros(count, bool)
        made[rng.permutation(count)[: round(options.made * count) if len(fake) else count]] = True
        kind = np.where(made, rng.choice([KINDS.index(name) for name in options.kinds], count), -1)
        other = self._others(own[:, 0], real, rng)
        return np.column_stack(
            [
                own,
                np.where(made[:, None], -1, recorded),
                kind,
                np.where(kind[:, None] == KINDS.index("blend"), other, -1),
            ]
        ).astype(np.int32)

    def _others(self, videos: np.ndarray, real: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return for each video a clip of another one, of another person where that is known."""
        chosen = rng.integers(len(real), size=len(videos))
        target = self.index.target
        for number, video in enumerate(videos):
            for step in range(len(real)):
                other = real[(chosen[number] + step) % len(real), 0]
                known = target[video] >= 0 and target[other] >= 0
                if target[other] != target[video] if known else other != video:
                    chosen[number] = (chosen[number] + step) % len(real)
                    break
        return real[chosen]

    def load(self, draw: np.ndarray, reader: FrameReader, rng: np.random.Generator | None) -> list[Sample]:
        if rng is None:
            raise DataError("the recipe `altfreezing` makes training clips; evaluation reads plain ones")
        video, first, fake, fake_first, kind, other, other_first = map(int, draw)
        size = self.config.clip_size or 1
        steps = np.arange(size)
        blends = kind >= 0 and KINDS[kind] == "blend"
        read: dict[tuple[int, int], Sample] = {}

        def frames(of: int, positions: np.ndarray, marks: bool) -> list[Sample]:
            """Read frames, each once: the fake shares most of the real clip's."""
            for position in positions.tolist():
                if (of, position) not in read:
                    read[of, position] = reader.raw(of, position, marks, self.config.with_mask)
            return [read[of, position] for position in positions.tolist()]

        marks = self.config.with_landmark or blends
        own = frames(video, first + steps, marks)
        about = {**reader.labels(video), "label": 1, "method": -1}
        if kind < 0:
            forged, about = frames(fake, fake_first + steps, marks), reader.labels(fake)
        elif blends:
            forged = self.blended(own, frames(other, other_first + steps, True), rng)
        else:
            forged = frames(video, self.moments(KINDS[kind], video, first, size, rng), marks)
        return [
            self._clip(clip, labels, reader, rng) for clip, labels in ((own, reader.labels(video)), (forged, about))
        ]

    def moments(self, kind: Kind, video: int, first: int, size: int, rng: np.random.Generator) -> np.ndarray:
        """Return the positions of a clip that jumps or halts."""
        at, count = int(rng.integers(1, max(2, size))), int(rng.integers(1, self.options.most + 1))
        found = dropped(first, size, int(self.index.frames[video]), at, count) if kind == "drop" else None
        return repeated(first, size, at - 1, count) if found is None else found

    def blended(self, own: list[Sample], others: list[Sample], rng: np.random.Generator) -> list[Sample]:
        """Return the clip with the faces of another blended in."""
        lattice, part, clip = int(rng.integers(2**31)), rng.random(), []
        for background, foreground in zip(own, others, strict=True):
            image, points = background["image"], background["landmark"]
            height, width = image.shape[:2]
            low, high = (limit * width / 256 for limit in self.options.blur)
            # The same numbers for every frame: the lattice moves with the face, not by itself.
            same = np.random.default_rng(lattice)
            mask = deform(hull_mask(points, height, width), same, self.options.deformation)
            alpha = soften(mask, max(3, int(low + part * (high - low)) | 1))
            onto = face_similarity(foreground["landmark"][:68], points[:68], 1 / 20, 20)
            moved = warp(foreground["image"], onto, width, height)
            mixed = blend(match_colour(moved, image, alpha), image, alpha)
            clip.append({**background, "image": mixed, "mask": (alpha > 0).astype(np.uint8)})
        return clip

    def _clip(self, frames: list[Sample], labels: Sample, reader: FrameReader, rng: np.random.Generator) -> Sample:
        """Return a finished clip, augmented alike in all its frames."""
        plan, done = reader.plan(rng), []
        asked = {
            "image",
            *(["mask"] if self.config.with_mask else []),
            *(["landmark"] if self.config.with_landmark else []),
        }
        for frame in frames:
            done.append(reader.finish({key: frame[key] for key in asked}, plan))
        return {**{key: np.stack([d[key] for d in done]) for key in done[0]}, **labels, "frame": frames[0]["frame"]}
