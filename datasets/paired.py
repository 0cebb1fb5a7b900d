"""Paired folders of infrared and visible images, and the layouts of MSRS and RoadScene on top of them."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset
from typing_extensions import Self

from datasets.truth import TRUTH, read_truth
from models.warping import grid_to_flow, resize, resize_matrix
from utils.classes import CLASSES
from utils.errors import UserError
from utils.files.false_colour import to_scalar
from utils.files.images import VisibleReader
from utils.files.infrared import WHITE_HOT, Infrared, InfraredReader, Reading
from utils.files.partners import files_by_name, find_partners
from utils.files.thermal import COLOUR

_SIDES = ((0, "ir"), (1, "vi"))  # of a pair's two files


@dataclass
class Pair:
    """An IR and a VI image, ``ir`` and ``vi``, float32 ``(1 or 3, H, W)`` in [0, 1].

    Optional: ``ir_warp`` ``(1 or 3, H, W)``, a deformed IR image; ``flow`` ``(2, H, W)`` in pixels, the true
    displacement d of ``ir_warp(q) = ir(q + d(q))``; ``label`` ``(H, W)`` int64, the classes of VI's pixels, 255 for no
    label; ``vi_to_ir`` ``(3, 3)`` float64, the true map of two unlike cameras, from VI's pixels to those of ``ir``,
    centres at whole numbers; ``missing`` ``(1, H, W)`` bool, pixels of ``ir`` for which its file has no value;
    ``infrared``, the IR file: its original values and how it became ``ir``; ``notes``, lines to tell the user.
    """

    name: str
    ir: Tensor
    vi: Tensor
    ir_warp: Tensor | None = None
    flow: Tensor | None = None
    label: Tensor | None = None
    vi_to_ir: Tensor | None = None
    missing: Tensor | None = field(default=None, kw_only=True)
    infrared: Infrared | None = field(default=None, kw_only=True)
    notes: list[str] = field(default_factory=list, kw_only=True)

    def in_vi_frame(self) -> "Pair":
        """Return the pair with its IR images resized to VI's size, since cameras may differ in resolution.

        ``vi_to_ir`` is updated to map to the resized image.

        Raises ValueError if the sizes differ and there is a true flow, which is valid for one size only.
        """
        size = self.vi.shape[-2:]
        if self.ir.shape[-2:] == size:
            return self
        if self.flow is not None:
            raise ValueError(
                f"IR is {tuple(self.ir.shape[-2:])} and VI {tuple(size)}; with a true flow both must agree"
            )
        ir, ir_warp = (None if image is None else resize(image[None], size)[0] for image in (self.ir, self.ir_warp))
        vi_to_ir = self.vi_to_ir
        if vi_to_ir is not None:
            vi_to_ir = resize_matrix(self.ir.shape[-2:], size) @ vi_to_ir
        missing = self.missing
        if missing is not None:
            missing = resize(missing[None].float(), size)[0] > 0
        return replace(self, ir=ir, ir_warp=ir_warp, vi_to_ir=vi_to_ir, missing=missing)

    def check_aligned(self) -> None:
        """Raise UserError unless the images have one size, as those of an aligned pair do."""
        if self.ir.shape[-2:] != self.vi.shape[-2:]:
            sizes = " and ".join(f"{image.shape[-2]}x{image.shape[-1]}" for image in (self.ir, self.vi))
            raise UserError(f"{self.name}: the images differ in size (height x width): {sizes}; they must be aligned")


class PairSet(Dataset):
    """A set of named pairs: indexing returns the :class:`Pair` of ``names[index]``.

    ``has_flow``, ``has_label`` and ``has_vi_to_ir`` tell whether the pairs have a true flow, a label and a true map;
    ``lines`` are what to tell the user of the set.
    """

    names: list[str]
    has_flow: bool
    has_label: bool
    has_vi_to_ir: bool = False
    lines: Sequence[str] = ()

    @property
    def sources(self) -> list[Path]:
        """The files that the pairs are read from."""
        return []

    def __len__(self) -> int:
        return len(self.names)

    def subset(self, names: list[str]) -> Self:
        """Return the set restricted to ``names``."""
        chosen = copy.copy(self)
        chosen.names = names
        return chosen


class PairedFolders(PairSet):
    """Pairs of two folders, matched by their names (:mod:`utils.files.partners`)::

        IR/NAME.(png|jpg|jpeg|bmp|tif|tiff|npy)     what utils/files/thermal.py reads
        VI/NAME.(png|jpg|jpeg|bmp|tif|tiff)         8 or 16 bit, 1, 3 or 4 channels
        IR_WARP/NAME.(any of these)                 optional: the deformed IR images
        FLOW/NAME[.png].mat                         optional: their true displacement
        LABEL/NAME.png                              optional: 8-bit maps of the classes of VI's pixels
        truth.json                                  optional: the true maps of unlike cameras (datasets/truth.py)

    ``ir``, ``vi`` and ``label`` are folders, or single files, which form a pair whatever their names. NAME is the stem
    of the VI file. ``reading`` says how IR files become images; the IR image keeps its own size. ``num_classes`` limits
    the classes of a label (:func:`read_label`). ``recursive`` and ``pairs`` as in
    :func:`utils.files.partners.find_partners`; ``complete``: whether a file without a partner is an error, or left out.
    ``lines`` tell the user how files were paired and which were left out.

    Raises UserError for a missing folder, a folder without images, two files of one stem, an image without its
    partner, or a pair without its true map where ``truth`` is given, naming them.
    """

    def __init__(
        self,
        ir: str | Path | None,
        vi: str | Path | None,
        ir_warp: str | Path | None = None,
        flow: str | Path | None = None,
        label: str | Path | None = None,
        num_classes: int = len(CLASSES),
        truth: str | Path | None = None,
        reading: Reading = WHITE_HOT,
        recursive: bool = False,
        pairs: Path | None = None,
        complete: bool = True,
    ):
        ir, vi = (None if path is None else Path(path) for path in (ir, vi))
        partners = find_partners(ir, vi, recursive, pairs)
        if complete and partners.alone:
            raise UserError(partners.alone[0])
        self.lines = partners.lines + [f"{line}; left out" for line in partners.alone]
        self.names = list(partners.files)
        self.files = {part: {name: two[index] for name, two in partners.files.items()} for index, part in _SIDES}
        self.reading = reading
        self.reader = InfraredReader([self.files["ir"][name] for name in self.names], reading)
        vi_files = [self.files["vi"][name] for name in self.names]
        self.vi_reader = VisibleReader(vi_files, reading.page, reading.vi_bits, reading.rgbt)
        for part, given in (("ir_warp", ir_warp), ("label", label)):
            if given is None:
                continue
            given = Path(given)
            self.files[part] = {self.names[0]: given} if given.is_file() else files_by_name(given, recursive)
            missing = sorted(set(self.names) - self.files[part].keys())
            if missing:
                others = " and others" if len(missing) > 5 else ""
                raise UserError(
                    f"{given}: no {part} image for {', '.join(missing[:5])}{others}; name it as the visible one"
                )
            more = sorted(self.files[part].keys() - set(self.names)) if given.is_dir() and complete else []
            if more:
                raise UserError(f"{ir}: no ir image for {', '.join(more[:5])}{' and others' if len(more) > 5 else ''}")
        self.flow = None if flow is None else Path(flow)
        self.has_flow, self.has_label = flow is not None, "label" in self.files
        self.num_classes = num_classes
        self.truth = None if truth is None else Path(truth)
        self.has_vi_to_ir = truth is not None
        self.truths = {} if truth is None else read_truth(self.truth)
        without = [name for name in self.names if self.has_vi_to_ir and name not in self.truths]
        if without:
            raise UserError(
                f"{truth}: no entry for {', '.join(without[:5])}{' and others' if len(without) > 5 else ''}"
            )

    @property
    def sources(self) -> list[Path]:
        files = [path for part in self.files.values() for path in part.values()]
        return files + [path for path in (self.flow, self.truth) if path is not None]

    def __getitem__(self, index: int) -> Pair:
        name = self.names[index]
        paths = {part: files[name] for part, files in self.files.items()}
        label_path = paths.pop("label", None)
        infrared = self.reader.read(paths["ir"])
        vi, vi_lines = self.vi_reader.read(paths["vi"])
        images: dict[str, Any] = {"ir": infrared.image, "vi": vi}
        if "ir_warp" in paths:
            images["ir_warp"] = self.reader.read(paths["ir_warp"]).image
        notes = infrared.notes + vi_lines + suspicions(infrared, vi, paths["vi"])
        flow, label, vi_to_ir = None, None, None
        if self.flow is not None:
            flow = read_flow(self.flow, name)
            if flow.shape[-2:] != images["ir"].shape[-2:]:
                raise UserError(f"{self.flow}: the flow of {name} and its image differ in size")
        if label_path is not None:
            label = read_label(label_path, self.num_classes)
            if label.shape != images["vi"].shape[-2:]:
                raise UserError(f"{label_path}: the label and the visible image of {name} differ in size")
        if self.has_vi_to_ir:
            vi_to_ir = self._true_map(name, images)
        pair = Pair(name, flow=flow, label=label, vi_to_ir=vi_to_ir, **images)
        return replace(pair, missing=infrared.missing, infrared=infrared, notes=notes)

    def _true_map(self, name: str, images: dict[str, Tensor]) -> Tensor:
        truth = self.truths[name]
        for modality, (width, height) in (("ir", truth.ir_size), ("vi", truth.vi_size)):
            _, rows, columns = images[modality].shape
            if (rows, columns) != (height, width):
                raise UserError(
                    f"{self.truth}: {modality}_size of {name} is {width}x{height}, but its image {columns}x{rows}"
                )
        return truth.vi_to_ir


def suspicions(infrared: Infrared, vi: Tensor, vi_path: Path) -> list[str]:
    """Say what is suspicious about an IR file and the image ``vi`` ``(1 or 3, H, W)`` of the file ``vi_path``: one
    picture twice, two of colours, or IR and VI swapped.
    """
    one_file = infrared.thermal.path.samefile(vi_path) and not infrared.thermal.has_visible
    ir = infrared.image
    alike = ir.shape[-2:] == vi.shape[-2:] and len(ir) <= len(vi) and torch.equal(ir.expand_as(vi), vi)
    if one_file or (alike and vi.min() < vi.max()):  # videos often begin in black
        return ["IR and VI are the same picture"]
    coloured = len(vi) == 3 and not all(torch.equal(vi[0], channel) for channel in vi[1:])
    if infrared.thermal.unit != COLOUR:
        return []
    if not coloured or to_scalar((vi * 255).byte().permute(1, 2, 0).numpy()) is not None:
        return ["IR is a colour picture, VI is gray or in false colours; are --ir and --vi swapped?"]
    return ["IR and VI are both colour pictures; is --ir the thermal one?"]


def read_flow(folder: Path, name: str) -> Tensor:
    """Read a true displacement ``(2, H, W)`` in pixels from ``folder/NAME.mat`` or ``folder/NAME.png.mat``.

    In the authors' format, the key ``flow`` holds an absolute sampling grid ``(1, H, W, 2)`` in [-1, 1].
    """
    candidates = [folder / f"{name}.mat", folder / f"{name}.png.mat"]
    path = next((c for c in candidates if c.is_file()), None)
    if path is None:
        raise UserError(f"{candidates[0]}: no such file; the flow of {name} is missing")
    try:
        grid = np.asarray(scipy.io.loadmat(path)["flow"], dtype=np.float32)
    except Exception as error:  # scipy raises half a dozen unrelated kinds for a damaged file
        raise UserError(f"{path}: not a readable flow file with the key 'flow'") from error
    if grid.ndim != 4 or grid.shape[0] != 1 or grid.shape[3] != 2:
        raise UserError(f"{path}: 'flow' has shape {grid.shape}, not (1, H, W, 2)")
    return grid_to_flow(torch.from_numpy(grid))[0]


def read_label(path: str | Path, num_classes: int = len(CLASSES)) -> Tensor:
    """Read a class map ``(H, W)`` int64 from an 8-bit PNG of one channel (gray, or indices of a palette).

    Its values are 0..num_classes - 1, or 255 for no label; anything else raises a UserError that names the file.
    """
    try:
        with Image.open(path) as image:
            image_format = f"{image.format} of mode {image.mode}"
            pixels = np.asarray(image)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: not a readable class map ({error})") from error
    if image_format not in ("PNG of mode L", "PNG of mode P"):
        raise UserError(f"{path}: a {image_format}; a class map is an 8-bit PNG of one channel")
    outside = pixels[(pixels >= num_classes) & (pixels != 255)]
    if outside.size:
        raise UserError(f"{path}: holds class {outside[0]}, expected 0..{num_classes - 1}, or 255 for no label")
    return torch.from_numpy(pixels.astype(np.int64))


def test_set(data_root: str | Path, name: str, num_classes: int = len(CLASSES), label: bool = False) -> PairedFolders:
    """Open the registration test set ``name`` ("MSRS", "RoadScene" ...) below ``data_root``, in one of these layouts::

        DATA_ROOT/NAME/test/{ir,vi[,ir_warp,flow,label][,truth.json]}   this project's
        DATA_ROOT/[dataset/]test/NAME/{ir,vi,ir_warp,flow}              the authors', as they ship it
        DATA_ROOT/NAME/{ir,vi,truth.json}                               pairs of unlike cameras, in one folder

    Labels are read only with ``label``, if there are any.
    """
    root = Path(data_root)
    candidates = [root / name / "test", root / "test" / name, root / "dataset" / "test" / name]
    if (root / name / TRUTH).is_file():
        candidates.append(root / name)
    folder = next((c for c in candidates if c.is_dir()), None)
    if folder is None:
        raise UserError(f"{candidates[0]}: no such folder (nor {candidates[1]}); --data_root must hold {name}")
    parts = ("ir_warp", "flow", "label") if label else ("ir_warp", "flow")
    extra: dict[str, Any] = {part: folder / part for part in parts if (folder / part).is_dir()}
    if (folder / TRUTH).is_file():
        extra["truth"] = folder / TRUTH
    return PairedFolders(folder / "ir", folder / "vi", num_classes=num_classes, **extra)
