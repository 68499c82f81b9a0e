"""Wanted frames of a video, decoded once, in order, with as little work as their coding allows.

A first pass over the packets (no decoding) tells how many frames there are, when each is shown and where decoding can
start. The second pass decodes only the groups of pictures that hold a wanted frame, leaves out pictures that neither are
wanted nor serve others, and converts only wanted ones to RGB.
"""

import bisect
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import ConfigError, DataError

MODES = ("fixed_num_frames", "fixed_stride")


def choose_frames(count: int, mode: str, num_frames: int, stride: int) -> list[int]:
    """Return the numbers of the frames to take from a video of `count` frames.

    `fixed_num_frames`: `num_frames` evenly spread from the first to the last (all of a shorter video);
    `fixed_stride`: every `stride`-th from the first on.
    """
    if mode not in MODES:
        raise ConfigError(f"mode `{mode}` is unknown; choose one of {', '.join(MODES)}")
    if mode == "fixed_stride":
        if stride < 1:
            raise ConfigError(f"stride is {stride}; it must be at least 1")
        return list(range(0, count, stride))
    if num_frames < 1:
        raise ConfigError(f"num_frames is {num_frames}; it must be at least 1")
    return sorted({int(number) for number in np.linspace(0, count - 1, num_frames)}) if count else []


@dataclass(frozen=True)
class _Packets:
    """What the packets say, in decoding order.

    Attributes:
        times: presentation time of each shown packet, sorted; a frame's number is its place here. None when the
            container does not tell (old AVI files): then every frame has to be decoded and counted.
        pts: presentation time of each packet in decoding order.
        keys: decoding positions at which decoding can start.
        count: frames to expect.
    """

    times: list[int] | None
    pts: list[int]
    keys: list[int]
    count: int


class VideoReader:
    """Frames of one video file by their number; use as a context manager.

    Raises:
        DataError: the file is missing, empty, no video, or holds no frames.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        if not self.path.is_file():
            hint = f"; it is a folder: name the files in it, {self.path}/*" if self.path.is_dir() else ""
            raise DataError(f"no such video: {self.path}{hint}")
        if self.path.stat().st_size == 0:
            raise DataError(f"{self.path} is empty (0 bytes); download it again")
        self.damage: str | None = None
        self._container = self._open()
        self._packets = self._scan()
        self.frame_count = self._packets.count
        if self.frame_count == 0:
            self.close()
            raise DataError(f"{self.path} holds a video track without a single frame; download it again")

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def choose(self, mode: str, num_frames: int, stride: int) -> list[int]:
        """Return `choose_frames` for this video."""
        return choose_frames(self.frame_count, mode, num_frames, stride)

    def seconds(self, number: int) -> float | None:
        """Return when a frame is shown, in seconds after the first; None where the file does not tell."""
        times = self._packets.times
        if times is not None and self._time_base:
            return float((times[number] - times[0]) * self._time_base)
        return float(number / self._rate) if self._rate else None

    def frames(self, numbers: Collection[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield (number, (H, W, 3) RGB uint8, upright) for the wanted frames that can be decoded, in ascending order.

        `damage` holds the decoder's complaint afterwards if some could not be.
        """
        import av
        from av.video.reformatter import VideoReformatter

        wanted = sorted({number for number in numbers if 0 <= number < self.frame_count})
        decode = self._decode_all if self._packets.times is None else self._decode_wanted
        delivered = 0
        # One converter for all: setting one up costs as much as converting a small frame.
        converter = VideoReformatter()
        try:
            for number, frame in decode(wanted):
                delivered += 1
                yield number, _upright(frame, converter)
        except av.FFmpegError as error:
            self.damage = f"the decoder stopped: {error.strerror}"
        if delivered < len(wanted) and self.damage is None:
            self.damage = f"only {delivered} of {len(wanted)} wanted frames could be decoded"

    def _open(self) -> Any:
        import av

        try:
            container = av.open(str(self.path))
        except (av.FFmpegError, OSError) as error:
            raise DataError(
                f"{self.path} cannot be opened as a video ({error.strerror or error}); download it again"
            ) from error
        if not container.streams.video:
            container.close()
            raise DataError(f"{self.path} has no video track (sound only, or cut short); download it again")
        return container

    def _scan(self) -> _Packets:
        import av

        stream = self._container.streams.video[0]
        self._time_base, self._rate = stream.time_base, stream.average_rate
        pts: list[Any] = []
        keys: list[int] = []
        shown: list[Any] = []
        try:
            for packet in self._container.demux(stream):
                if not packet.size:
                    continue
                if packet.is_keyframe:
                    keys.append(len(pts))
                pts.append(packet.pts)
                if not packet.is_discard:
                    shown.append(packet.pts)
        except av.FFmpegError as error:
            self.damage = f"the file is damaged: {error.strerror}"
        known = None not in pts and len(set(pts)) == len(pts) and keys[:1] == [0]
        if known:
            return _Packets(sorted(shown), pts, keys, len(shown))
        return _Packets(None, [], [], len(shown))

    def _rewound(self) -> Any:
        """Open afresh: cheaper to get right than seeking, and the packets are in the page cache by now."""
        self._container.close()
        self._container = self._open()
        stream = self._container.streams.video[0]
        # Videos are many and cores are few: one decoder thread each, one process per core.
        stream.codec_context.thread_count = 1
        return stream

    def _decode_all(self, wanted: list[int]) -> Iterator[tuple[int, Any]]:
        left = set(wanted)
        stream = self._rewound()
        for number, frame in enumerate(self._container.decode(stream)):
            if number in left:
                left.discard(number)
                yield number, frame
            if not left:
                return

    def _decode_wanted(self, wanted: list[int]) -> Iterator[tuple[int, Any]]:
        times, pts, keys = self._packets.times, self._packets.pts, self._packets.keys
        assert times is not None
        number_of = {times[number]: number for number in wanted}
        needed = _needed_packets(pts, keys, set(number_of))
        if not needed:
            return
        stream = self._rewound()
        decoder = stream.codec_context
        last, previous = max(needed), None
        position = -1
        for packet in self._container.demux(stream):
            if not packet.size:
                continue
            position += 1
            if position > last:
                break
            if position not in needed:
                continue
            if previous is not None and position != previous + 1:
                yield from _chosen(decoder.decode(None), number_of)
                decoder.flush_buffers()
            previous = position
            # Pictures that no other refers to are decoded only when they are wanted themselves.
            decoder.skip_frame = "DEFAULT" if packet.pts in number_of else "NONREF"
            yield from _chosen(decoder.decode(packet), number_of)
        yield from _chosen(decoder.decode(None), number_of)


def _chosen(frames: list[Any], number_of: dict[int, int]) -> Iterator[tuple[int, Any]]:
    for frame in frames:
        if frame.pts in number_of:
            yield number_of[frame.pts], frame


def _needed_packets(pts: list[int], keys: list[int], wanted: set[int]) -> set[int]:
    """Return the decoding positions from which the wanted pictures follow: from a key picture up to each of them."""
    needed: set[int] = set()
    for position, time in enumerate(pts):
        if time not in wanted:
            continue
        start = bisect.bisect_right(keys, position) - 1
        # A picture shown before its key picture (open group) leans on the group before.
        while start > 0 and pts[keys[start]] > time:
            start -= 1
        needed.update(range(keys[start], position + 1))
    return needed


def _upright(frame: Any, converter: Any) -> NDArray[np.uint8]:
    """Convert a decoded frame to RGB, turned as its display matrix asks (phones film sideways)."""
    image = converter.reformat(frame, format="rgb24").to_ndarray()
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image
