"""Wanted frames of a video, decoded once, in order, with as little work as their coding allows.

A first pass over the packets (no decoding) tells how many frames there are, when each is shown and where decoding can
start. The second pass decodes only the groups of pictures that hold a wanted frame, leaves out pictures that neither are
wanted nor serve others, and converts only wanted ones to RGB.
"""

import bisect
import os
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import ConfigError, DataError
from common.images import MAX_PIXELS, check_pixels
from preprocessing.container_size import cut_short

MODES = ("fixed_num_frames", "fixed_stride")

# What may be opened: files that hold their pictures or sounds themselves. Playlists, scripts and descriptions of streams name
# other files, and a text is no video; a file is taken for what it holds, whatever it is called.
_CONTAINERS = (
    "mov,matroska,webm,avi,flv,live_flv,kux,asf,asf_o,mpeg,mpegts,mpegvideo,h261,h263,h264,hevc,vvc,evc,m4v,av1,obu,ivf,vc1,"
    "vc1test,apv,avs2,avs3,cavsvideo,dirac,dnxhd,mjpeg,ogg,nut,mxf,gxf,dv,rm,ivr,swf,nsv,nuv,wtv,ty,pva,vivo,amv,bink,smk,roq,"
    "4xm,flic,dhav,mtv,rl2,r3d,cine,mlv,yuv4mpegpipe,gif,apng,webp,png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,tiff_pipe,"
    "wav,w64,mp3,aac,flac,aiff,caf,au,ac3,eac3,amr,ape,wv,tta,tak,dts,truehd,voc,mpc,mpc8"
)
_COVER = 0x400 | 0x800  # dispositions "attached picture" and "timed thumbnails": pictures about the film, not the film
_MISSING = (0.5, 0.02)  # how much earlier than said a whole film may end: seconds, or a share of its length


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
    if num_frames >= count:
        return list(range(count))
    return sorted({int(number) for number in np.linspace(0, count - 1, num_frames)})


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

    Args:
        path: a file; never an address, whatever its name looks like.
        max_pixels: width times height above which nothing is decoded.

    Attributes:
        frame_count: frames that are there. damage: what is known to be missing or broken, else None.

    Raises:
        DataError: the file is missing, empty, no video, too large, or holds no frames.
    """

    def __init__(self, path: str | os.PathLike, max_pixels: int = MAX_PIXELS):
        self.path, self._max_pixels = Path(path), max_pixels
        if not self.path.is_file():
            hint = f"; it is a folder: name the files in it, {self.path}/*" if self.path.is_dir() else ""
            raise DataError(f"no such video: {self.path}{hint}")
        if self.path.stat().st_size == 0:
            raise DataError(f"{self.path} is empty (0 bytes); download it again")
        self._container = self._open()
        self.damage: str | None = cut_short(self.path)
        try:
            self._packets = self._scan()
            self.frame_count = self._packets.count
            if self.frame_count == 0:
                raise DataError(f"{self.path} holds a video track without a single frame; download it again")
        except BaseException:
            self.close()
            raise

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

        `damage` holds the decoder's complaint afterwards if some could not be. A frame that the decoder had to patch up
        is left out; frames have their own sizes where those change inside the video.
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
                if frame.is_corrupt:
                    continue
                check_pixels(frame.width, frame.height, str(self.path), self._max_pixels)
                delivered += 1
                yield number, _upright(frame, converter)
        except av.FFmpegError as error:
            self.damage = f"the decoder stopped: {error.strerror}"
        if delivered < len(wanted) and self.damage is None:
            self.damage = f"only {delivered} of {len(wanted)} wanted frames could be decoded"

    def _open(self) -> Any:
        import av

        try:
            # The prefix makes it a file, also where the name looks like a protocol (`12:30.mp4`).
            container = av.open(
                f"file:{os.path.abspath(self.path)}",
                options={"protocol_whitelist": "file", "format_whitelist": _CONTAINERS},
            )
        except (av.FFmpegError, OSError) as error:
            why = "it is a text: a playlist, a web page?" if _is_text(self.path) else error.strerror or error
            raise DataError(f"{self.path} cannot be opened as a video ({why}); download it again") from error
        try:
            stream = self._film(container)
            check_pixels(stream.width or 0, stream.height or 0, str(self.path), self._max_pixels)
        except DataError:
            container.close()
            raise
        # Sizes may change on the way. The decoder counts padding too: twice as much is what it never comes near in earnest.
        stream.codec_context.options = {"max_pixels": str(2 * self._max_pixels + (1 << 20))}
        return container

    def _film(self, container: Any) -> Any:
        """Return the first video stream that is no cover."""
        streams = container.streams.video
        for stream in streams:
            if not int(stream.disposition) & _COVER:
                return stream
        why = "film: its picture is the cover of a sound file" if streams else "video track (sound only, or cut short)"
        raise DataError(f"{self.path} has no {why}; choose a video, or download it again")

    def _scan(self) -> _Packets:
        import av

        stream = self._film(self._container)
        self._time_base, self._rate = stream.time_base, stream.average_rate
        pts: list[Any] = []
        keys: list[int] = []
        shown: list[Any] = []
        end = 0.0  # of all tracks: a film may be shorter than its sound
        try:
            for packet in self._container.demux():
                if not packet.size:
                    continue
                if packet.pts is not None:
                    end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                if packet.stream_index != stream.index:
                    continue
                if packet.is_corrupt:
                    self.damage = self.damage or "the file is damaged: a picture of it is incomplete"
                if packet.is_keyframe:
                    keys.append(len(pts))
                pts.append(packet.pts)
                if not packet.is_discard:
                    shown.append(packet.pts)
        except av.FFmpegError as error:
            self.damage = self.damage or f"the file is damaged: {error.strerror}"
        self.damage = self.damage or self._ends_early(end)
        known = None not in pts and len(set(pts)) == len(pts) and keys[:1] == [0]
        if known:
            return _Packets(sorted(shown), pts, keys, len(shown))
        return _Packets(None, [], [], len(shown))

    def _ends_early(self, end: float) -> str | None:
        """Compare what the header says of the film's length with when the last packet ends (seconds)."""
        container = self._container
        # Other containers state no length of their own, or (MP4) one that edits have made another than the packets'.
        if not container.duration or not {"matroska", "flv", "mxf", "ivf"} & set(container.format.name.split(",")):
            return None
        said = container.duration / 1e6 + (container.start_time or 0) / 1e6
        if said - end <= max(_MISSING[0], _MISSING[1] * said):
            return None
        return f"the file ends after {end:.1f} of {said:.1f} seconds"

    def _rewound(self) -> Any:
        """Open afresh: cheaper to get right than seeking, and the packets are in the page cache by now."""
        self._container.close()
        self._container = self._open()
        stream = self._film(self._container)
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
    """Convert a decoded frame to RGB, turned and mirrored as its display matrix asks (phones film sideways)."""
    image = converter.reformat(frame, width=frame.width, height=frame.height, format="rgb24").to_ndarray()
    a, b, c, d = _display_matrix(frame)
    # A pixel at (x, y) is shown at (a x + c y, b x + d y). Slanted matrices are taken for the nearest upright one.
    if abs(b) + abs(c) > abs(a) + abs(d):
        image, a, d = image.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _display_matrix(frame: Any) -> tuple[int, int, int, int]:
    from av.sidedata.sidedata import Type

    data = frame.side_data.get(Type.DISPLAYMATRIX)
    if data is None:
        return 1, 0, 0, 1
    numbers = struct.unpack("=9i", bytes(data))
    return numbers[0], numbers[1], numbers[3], numbers[4]


def _is_text(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            head = file.read(1024)
    except OSError:
        return False
    return all(byte >= 32 or byte in b"\t\n\r\f" for byte in head)
