"""Register and fuse two videos: transforms of key frames, smoothed over time, applied to every frame."""

import sys
import time as clock
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from datasets.paired import Pair, suspicions
from models import Pipeline
from models.registration import Transform
from models.registration.averaging import anchors, distance
from models.registration.registry import registered_at
from models.registration.rig import check_sizes
from models.registration.smoothing import Smoother
from models.results import Registration
from models.warping import resize
from utils.colour import luminance
from utils.errors import UserError
from utils.figures.pair_sheet import CAPTIONS, PANEL_SIDE
from utils.figures.sheets import sheet
from utils.files.infrared import DEFAULT, Infrared, Reading
from utils.files.results import write_csv, write_json
from utils.files.video import Frame, ImageSequence, InfraredFrames, Video, VideoWriter, lockstep, open_video
from utils.notes import Notes
from utils.overlap import ahead


@dataclass
class VideoPair:
    """An IR and a VI video: frame i of VI goes with frame i + ``offset`` of IR, ``limit`` frames at most."""

    ir: Path
    vi: Path
    offset: int = 0
    limit: int | None = None
    reading: Reading = DEFAULT

    def open(self) -> tuple[Video | ImageSequence, Video | ImageSequence]:
        return open_video(self.ir, self.reading), open_video(self.vi, self.reading)

    def frames(self) -> Iterator[tuple[Frame, Frame]]:
        """Read IR's and VI's frames that belong together; each call reads the files anew."""
        return islice(lockstep(*self.open(), self.offset), self.limit)

    @cached_property
    def infrared(self) -> InfraredFrames:
        """The reader of IR's frames."""
        return InfraredFrames(self.open()[0], self.reading)

    def count(self) -> int | None:
        """Estimate the number of frames from what the files say; None if they do not."""
        ir, vi = self.open()
        if not (ir.count and vi.count):
            return None
        shown = min(vi.count, round(ir.count / ir.rate * vi.rate))
        return shown if self.limit is None else min(shown, self.limit)


@dataclass
class Flicker:
    """Changes from frame to frame: of the transform in px of VI, without and with smoothing, and of the luminance of VI
    and of the fused image, as a mean absolute difference in 8-bit levels.

    Without smoothing each frame has the transform of the last key frame before it.
    """

    keys: list[float] = field(default_factory=list)
    smoothed: list[float] = field(default_factory=list)
    vi: list[float] = field(default_factory=list)
    fused: list[float] = field(default_factory=list)
    _last: tuple | None = None

    def add(self, key: Transform | None, smoothed: Transform | None, vi: Tensor, fused: Tensor | None) -> None:
        """Note a frame: its transforms, if any, and its images ``(1 or 3, H, W)``."""
        frame = (key, smoothed, *(None if image is None else luminance(image[None]) for image in (vi, fused)))
        if self._last is not None:
            for values, now, last in zip((self.keys, self.smoothed, self.vi, self.fused), frame, self._last):
                if isinstance(now, Transform) and isinstance(last, Transform):
                    values.append(0.0 if now is last else distance(last, now, anchors(now)))
                elif now is not None and last is not None:
                    values.append(255 * float((now - last).abs().mean()))
        self._last = frame

    def summary(self) -> dict:
        """Return means, and of the transforms' changes the largest."""
        found = {}
        if self.smoothed:
            states = {"before_smoothing": self.keys or [0.0], "after_smoothing": self.smoothed}
            changes = {when: {"mean": sum(v) / len(v), "largest": max(v)} for when, v in states.items()}
            found["transform_change_px"] = changes
        if self.fused:
            found["image_change_levels"] = {k: sum(v) / len(v) for k, v in (("vi", self.vi), ("fused", self.fused))}
        return found


class KeyFrames:
    """The transforms of every ``every``-th frame by the pipeline's registrar; they are made while iterating.

    ``rows`` has one for each key so far: the frame, whether it was accepted, the confidence. ``latest(frame)`` is the
    accepted transform of the last key at or before ``frame``.
    """

    def __init__(self, pipeline: Pipeline, videos: VideoPair, every: int):
        self.pipeline, self.videos, self.every = pipeline, videos, every
        self.rows: list[dict] = []
        self._accepted: list[tuple[int, Transform]] = []

    def __iter__(self) -> Iterator[tuple[float, Transform | None]]:
        for number, (ir, vi) in enumerate(self.videos.frames()):
            if number % self.every:
                continue
            images = self.videos.infrared.read(ir).image[None], vi.visible()[0][None]
            (found,) = self.pipeline.register(*images).transforms
            self.rows.append({"frame": number, "accepted": int(found.accepted), "confidence": found.confidence})
            if found.accepted:
                self._accepted.append((number, found))
            yield number, found if found.accepted else None

    def latest(self, frame: int) -> Transform | None:
        while len(self._accepted) > 1 and self._accepted[1][0] <= frame:
            self._accepted.pop(0)
        return self._accepted[0][1] if self._accepted and self._accepted[0][0] <= frame else None


class Warper:
    """Registers IR frames by a transform, on a ``device``; its map is computed only when it changes."""

    def __init__(self, device: torch.device):
        self.device = device
        self._transform: Transform | None = None

    def __call__(self, transform: Transform, infrared: Infrared, vi: Tensor) -> Registration:
        """Warp an IR frame onto that of ``vi`` ``(3, H, W)``; ValueError for sizes of other files."""
        ir = infrared.image
        check_sizes(transform, ir, vi)
        if transform is not self._transform:
            self._transform, self._positions = transform, transform.map_vi2ir()[None].to(self.device)
        registration = registered_at(ir[None].to(self.device), self._positions)
        if infrared.missing is None:
            return registration
        return registration.without(infrared.missing[None].to(self.device))


@torch.inference_mode()
def fuse_video(
    pipeline: Pipeline,
    videos: VideoPair,
    out: Path,
    mode: str = "Reg&Fusion",
    transform: Transform | None = None,
    every: int = 25,
    smooth: float = 50.0,
    sheets: bool = False,
) -> dict:
    """Write ``out/fused.mp4`` (``registered.mp4`` in mode Reg), with ``sheets`` also ``out/sheets.mp4``, VI, registered
    IR and fused side by side; ``key_frames.csv`` and the key frames' smoothed transforms, ``transform/FRAME.json``; and
    ``summary.json``. Returns the summary.

    The transform is ``transform`` for all frames, or that of every ``every``-th frame, smoothed with a Gaussian of
    ``smooth`` frames. In mode Fusion the videos are taken as aligned but for the resolution. An error or Ctrl-C leaves
    the frames so far, in files that play. Raises UserError if no key frame is accepted, or for what cannot be read.
    """
    keys, flicker, warper = KeyFrames(pipeline, videos, every), Flicker(), Warper(pipeline.device)
    smoother = Smoother([(0.0, transform)] if transform is not None else keys, smooth)
    rate, start = videos.open()[1].rate, clock.perf_counter()
    notes = Notes(lambda line: tqdm.write(line, file=sys.stderr))
    summary: dict = {}
    written = VideoWriter(out / ("registered.mp4" if mode == "Reg" else "fused.mp4"), rate)
    try:
        with written, VideoWriter(out / "sheets.mp4", rate) as beside:
            images = ahead((vi, videos.infrared.read(ir), *vi.visible()) for ir, vi in videos.frames())
            for number, (frame, infrared, vi, lines) in enumerate(
                tqdm(images, unit="frame", total=videos.count(), disable=None)
            ):
                smoothed, statement = None, infrared.statement
                notes.tell(f"frame {number}", infrared.notes + lines)
                if number == 0:  # what holds of two videos shows in any frame
                    notes.tell(f"frame {number}", suspicions(infrared, vi, frame.path))
                if mode == "Fusion":
                    pair = Pair(videos.vi.name, infrared.image, vi, missing=infrared.missing).in_vi_frame()
                    missing = None if pair.missing is None else pair.missing[None]
                    registered, fused = pair.ir, pipeline.fuse(pair.ir[None], vi[None], missing)[0].cpu()
                else:
                    smoothed = smoother.at(number)
                    if smoothed is None:
                        raise UserError(f"{videos.vi}: no key frame was accepted; try another --scale or --rotation")
                    if transform is None and number % every == 0:
                        smoothed.save(out / "transform" / f"{number:06d}.json")
                    registered, fused = _registered(pipeline, warper(smoothed, infrared, vi), infrared.image, vi, mode)
                written.write(registered if fused is None else fused, frame.time)
                if sheets:
                    beside.write(_side_by_side(vi, registered, fused), frame.time)
                flicker.add(keys.latest(number) if transform is None else transform, smoothed, vi, fused)
    finally:
        notes.close()
        if written.frames:
            seconds = clock.perf_counter() - start
            summary = {"frames": written.frames, "seconds": seconds, "frames_per_second": written.frames / seconds}
            summary["infrared"] = statement
            if keys.rows:
                summary |= {"key_frames": len(keys.rows), "accepted": sum(row["accepted"] for row in keys.rows)}
                write_csv(out / "key_frames.csv", keys.rows)
            summary |= flicker.summary()
            write_json(out / "summary.json", summary)
    if not summary:
        raise UserError(f"{videos.vi}: none of its frames has one in {videos.ir}; check --offset")
    return summary


def _registered(
    pipeline: Pipeline, registration: Registration, ir: Tensor, vi: Tensor, mode: str
) -> tuple[Tensor, Tensor | None]:
    """Return the registered and, unless the mode is Reg, the fused frame of a ``registration``, on the CPU."""
    fused = None if mode == "Reg" else pipeline.fuse_registered(ir[None], vi[None], registration).fused[0].cpu()
    return registration.registered[0].cpu(), fused


def _side_by_side(vi: Tensor, registered: Tensor, fused: Tensor | None) -> Tensor:
    """Draw a frame of the sheet video, with panels of half the side of those of an image's sheet at most."""
    panels = {CAPTIONS["vi"]: vi, "IR registered": registered}
    if fused is not None:
        panels[CAPTIONS["fused"]] = fused
    scale = min(1.0, PANEL_SIDE / 2 / max(vi.shape[-2:]))
    size = [max(1, round(scale * side)) for side in vi.shape[-2:]]
    return sheet({caption: resize(image[None], size)[0] for caption, image in panels.items()}, len(panels))
