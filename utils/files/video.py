"""Videos: read any container that FFmpeg knows, or a sequence of image files, frame by frame; write H.264.

Nothing holds more than the frames at hand. Visible frames are float32 ``(1 or 3, H, W)`` in [0, 1]; thermal ones are
read as files are, to their values, of more than 8 bit where they have them.
"""

import glob
import itertools
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import ColorRange, Colorspace
from torch import Tensor

from utils.errors import UserError
from utils.files.decode import THERMAL_EXTENSIONS, Pixels
from utils.files.images import VisibleReader
from utils.files.infrared import DEFAULT, Infrared, InfraredReader, Reading
from utils.files.thermal import Thermal, read_thermal, thermal_of

RATE = Fraction(25)  # frames per second of a sequence of images
_SAMPLED = 16  # frames by which the stretch and the polarity of all are judged
_SAME_RATE = 1e-3  # relative difference of two rates that count as one
_CLOCK = 90000  # ticks a second of the time stamps that are written
_QUALITY, _SPEED = "18", "veryfast"  # x264's constant rate factor, hardly to be told from the source, and preset


@dataclass(frozen=True)
class Frame:
    """A frame of the file ``path``, at ``time`` seconds from the first. ``visible()`` decodes it to a visible image
    ``(1 or 3, H, W)`` in [0, 1], with lines to tell the user, ``thermal(page, colours)`` as
    :func:`utils.files.thermal.read_thermal` does a file.
    """

    time: float
    path: Path
    visible: Callable[[], tuple[Tensor, list[str]]]
    thermal: Callable[[int | None, str], Thermal]


class Video:
    """A video file: its frame ``rate`` (per second, on the average) and the number of frames, 0 if unknown (``count``).

    Raises UserError naming the file if it is no readable video.
    """

    def __init__(self, path: Path):
        self.path = path
        with self._open() as container:
            stream = container.streams.video[0]
            rate = stream.average_rate or stream.guessed_rate or RATE
            duration = float(stream.duration * stream.time_base) if stream.duration else (container.duration or 0) / 1e6
            self.rate, self.count = Fraction(rate), stream.frames or round(duration * rate)

    def __iter__(self) -> Iterator[Frame]:
        """Read the frames in order; raises UserError for a frame that cannot be decoded."""
        first = None
        with self._open() as container:
            try:
                for number, frame in enumerate(container.decode(video=0)):
                    time = number / float(self.rate) if frame.time is None else frame.time
                    first = time if first is None else first
                    yield self._frame(time - first, frame)
            except av.FFmpegError as error:
                raise UserError(f"{self.path}: a frame cannot be decoded ({error.strerror})") from error
        if first is None:
            raise UserError(f"{self.path}: no frame in it can be decoded")

    def _open(self) -> av.container.InputContainer:
        try:
            container = av.open(str(self.path))
        except (av.FFmpegError, OSError) as error:
            raise UserError(f"{self.path}: not a readable video ({error.strerror})") from error
        if not container.streams.video:
            container.close()
            raise UserError(f"{self.path}: holds no video")
        return container

    def sample(self, count: int) -> list[Frame]:
        """Read at most ``count`` frames, spread evenly, or the first ones of a file that does not tell its length."""
        if not self.count:
            return list(itertools.islice(self, count))
        with self._open() as container:
            stream = container.streams.video[0]
            found = []
            for second in np.linspace(0, self.count / float(self.rate), count, endpoint=False):
                container.seek(int(second / stream.time_base) + (stream.start_time or 0), stream=stream)
                frame = next(container.decode(video=0), None)
                if frame is not None:
                    found.append(self._frame(second, frame))
        return found

    def _frame(self, time: float, frame: av.VideoFrame) -> Frame:
        def visible() -> tuple[Tensor, list[str]]:
            values = np.ascontiguousarray(_pixels(frame).transpose(2, 0, 1))
            return torch.from_numpy(values.astype(np.float32) / np.iinfo(values.dtype).max), []

        def thermal(page: int | None, colours: str) -> Thermal:
            return thermal_of(Pixels(_pixels(frame)), self.path, page, colours)

        return Frame(time, self.path, visible, thermal)


def _pixels(frame: av.VideoFrame) -> np.ndarray:
    """Return ``(H, W, 1 or 3)``, uint8, or uint16 of a gray frame of more than 8 bit."""
    components = frame.format.components
    if len(components) == 1:
        pixels = frame.to_ndarray(format="gray16le" if components[0].bits > 8 else "gray")[:, :, None]
    else:
        pixels = frame.to_ndarray(format="rgb24")
    # A phone that was turned writes its frames unturned, and the angle.
    return np.rot90(pixels, frame.rotation // 90)


class ImageSequence:
    """The image files that match a pattern, in the order of the numbers in their names, as a video of ``rate``.

    The pattern has ``*`` or ``?``, or a number as FFmpeg writes it (``frame_%04d.png``). ``reading`` says how visible
    frames are read. Raises UserError without any file.
    """

    def __init__(self, pattern: str, rate: Fraction = RATE, reading: Reading = DEFAULT):
        names = glob.glob(re.sub(r"%0?\d*d", "*", pattern))
        self.paths = sorted((n for n in names if n.lower().endswith(THERMAL_EXTENSIONS)), key=_by_numbers)
        if not self.paths:
            raise UserError(f"{pattern}: no image file matches it")
        self.rate, self.count = rate, len(self.paths)
        self.visible = VisibleReader([Path(path) for path in self.paths], reading.page, reading.vi_bits)

    def __iter__(self) -> Iterator[Frame]:
        return map(self._frame, range(self.count))

    def sample(self, count: int) -> list[Frame]:
        """Choose at most ``count`` frames, spread evenly."""
        return [self._frame(i) for i in sorted({round(i) for i in np.linspace(0, self.count - 1, count)})]

    def _frame(self, number: int) -> Frame:
        path = Path(self.paths[number])
        time = number / float(self.rate)
        return Frame(time, path, partial(self.visible.read, path), partial(read_thermal, path))


class InfraredFrames(InfraredReader):
    """Read the IR frames of a ``video`` as images, as ``reading`` says, but with one stretch for all of them.

    What holds for all is found from frames spread evenly over it.
    """

    def __init__(self, video: Video | ImageSequence, reading: Reading):
        reading = replace(reading, stretch="set") if reading.stretch == "pair" else reading
        super().__init__(video.sample(_SAMPLED), reading)

    def read(self, frame: Any) -> Infrared:
        """Read a :class:`Frame` of the video."""
        return super().read(frame)

    def values(self, frame: Any) -> Thermal:
        return frame.thermal(self.reading.page, self.reading.colours)


def _by_numbers(name: str) -> list:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def is_sequence(path: str | Path) -> bool:
    """Tell whether ``path`` is a pattern for :class:`ImageSequence`."""
    return bool(re.search(r"[*?]|%0?\d*d", Path(path).name)) and not Path(path).exists()


def is_video(path: str | Path) -> bool:
    """Tell whether ``path`` is a sequence or a file that is no image."""
    return is_sequence(path) or (Path(path).is_file() and Path(path).suffix.lower() not in THERMAL_EXTENSIONS)


def open_video(path: str | Path, reading: Reading = DEFAULT) -> Video | ImageSequence:
    """Open a video or a sequence, whose files are read as ``reading`` says; errors are those of the classes."""
    return ImageSequence(str(path), reading=reading) if is_sequence(path) else Video(Path(path))


def lockstep(ir: Video | ImageSequence, vi: Video | ImageSequence, offset: int = 0) -> Iterator[tuple[Frame, Frame]]:
    """Pair each frame of ``vi`` with its frame of ``ir``, until either ends.

    Frame i of VI goes with frame i + ``offset`` of IR if the rates are equal, else with the one nearest in time, of a
    clock that is ``offset`` frames of IR late. Frames of VI that have none are left out.
    """
    skipped = max(0, -offset) if same_rate(ir, vi) else 0
    later = max(0, offset) if same_rate(ir, vi) else 0
    ir_frames, vi_frames = itertools.islice(ir, later, None), itertools.islice(vi, skipped, None)
    if same_rate(ir, vi):
        yield from zip(ir_frames, vi_frames)
        return
    delay, slack = offset / float(ir.rate), 0.5 / float(ir.rate)
    current, following = next(ir_frames, None), next(ir_frames, None)
    for frame in vi_frames:
        wanted = frame.time + delay
        while following is not None and abs(following.time - wanted) <= abs(current.time - wanted):
            current, following = following, next(ir_frames, None)
        if following is None and wanted > current.time + slack:
            return
        if wanted >= current.time - slack:
            yield current, frame


def same_rate(first: Video | ImageSequence, second: Video | ImageSequence) -> bool:
    """Tell whether two videos have one frame rate."""
    return abs(first.rate / second.rate - 1) < _SAME_RATE


class VideoWriter:
    """Write frames as H.264 in ``path``, an .mp4; a context manager.

    The file appears when it is closed, whatever ends the writing, and plays with the frames it got by then; without any
    it does not appear. A side of an odd number of pixels is widened by one, as the format asks for even ones.
    """

    def __init__(self, path: Path, rate: Fraction):
        self.path, self.rate = path, rate
        self.frames, self._stamp = 0, -1
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self._container: av.container.OutputContainer | None = None

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def write(self, image: Tensor, time: float) -> None:
        """Append ``image`` ``(1 or 3, H, W)`` in [0, 1], all of one size, at ``time`` seconds, later than the last."""
        height, width = image.shape[-2:]
        pixels = (image.detach().expand(3, -1, -1).clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu()
        pixels = np.pad(pixels.numpy(), ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        try:
            if self._container is None:
                self._start(pixels.shape[1], pixels.shape[0])
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24").reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU601, dst_color_range=ColorRange.MPEG
            )
            self._stamp = frame.pts = max(self._stamp + 1, round(time * _CLOCK))
            frame.time_base = Fraction(1, _CLOCK)
            self._container.mux(self._stream.encode(frame))
        except (av.FFmpegError, OSError) as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror})") from error
        self.frames += 1

    def close(self) -> None:
        """Finish the file and give it its name."""
        if self._container is None:
            return
        container, self._container = self._container, None
        container.mux(self._stream.encode(None))
        container.close()
        self._temporary.replace(self.path)

    def _start(self, width: int, height: int) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(str(self._temporary), "w", format="mp4", options={"movflags": "faststart"})
        self._stream = self._container.add_stream("libx264", rate=self.rate.limit_denominator(10000))
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        self._stream.options = {"crf": _QUALITY, "preset": _SPEED}
        context = self._stream.codec_context
        context.time_base = Fraction(1, _CLOCK)
        # Players take untagged large frames for another colour space.
        context.colorspace, context.color_range = Colorspace.ITU601, ColorRange.MPEG
