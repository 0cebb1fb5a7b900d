"""Paired folders of infrared and visible images, and the layouts of MSRS and RoadScene on top of them."""

import copy
from dataclasses import dataclass, replace
from pathlib import Path

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
from utils.files.images import EXTENSIONS, read_image


@dataclass
class Pair:
    """An IR and a VI image, ``ir`` and ``vi``, float32 ``(1 or 3, H, W)`` in [0, 1].

    Optional: ``ir_warp`` ``(1 or 3, H, W)``, a deformed IR image; ``flow`` ``(2, H, W)`` in pixels, the true
    displacement d of ``ir_warp(q) = ir(q + d(q))``; ``label`` ``(H, W)`` int64, the classes of VI's pixels, 255 for no
    label; ``vi_to_ir`` ``(3, 3)`` float64, the true map of two unlike cameras, from VI's pixels to those of ``ir``,
    centres at whole numbers.
    """

    name: str
    ir: Tensor
    vi: Tensor
    ir_warp: Tensor | None = None
    flow: Tensor | None = None
    label: Tensor | None = None
    vi_to_ir: Tensor | None = None

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
        return replace(self, ir=ir, ir_warp=ir_warp, vi_to_ir=vi_to_ir)

    def check_aligned(self) -> None:
        """Raise UserError unless the images have one size, as those of an aligned pair do."""
        if self.ir.shape[-2:] != self.vi.shape[-2:]:
            sizes = " and ".join(f"{image.shape[-2]}x{image.shape[-1]}" for image in (self.ir, self.vi))
            raise UserError(f"{self.name}: the images differ in size (height x width): {sizes}; they must be aligned")


class PairSet(Dataset):
    """A set of named pairs: indexing returns the :class:`Pair` of ``names[index]``.

    ``has_flow``, ``has_label`` and ``has_vi_to_ir`` tell whether the pairs have a true flow, a label and a true map.
    """

    names: list[str]
    has_flow: bool
    has_label: bool
    has_vi_to_ir: bool = False

    def __len__(self) -> int:
        return len(self.names)

    def subset(self, names: list[str]) -> Self:
        """Return the set restricted to ``names``."""
        chosen = copy.copy(self)
        chosen.names = names
        return chosen


class PairedFolders(PairSet):
    """Pairs matched by the stem of their file names::

        IR/NAME.(png|jpg|jpeg|bmp|tif|tiff)         8 or 16 bit, 1, 3 or 4 channels
        VI/NAME.(any of these)
        IR_WARP/NAME.(any of these)                 optional: the deformed IR images
        FLOW/NAME[.png].mat                         optional: their true displacement
        LABEL/NAME.png                              optional: 8-bit maps of the classes of VI's pixels
        truth.json                                  optional: the true maps of unlike cameras (datasets/truth.py)

    ``ir``, ``vi`` and ``label`` are folders, or single files, which form a pair whatever their names. A 16-bit IR image
    is stretched between its percentiles (:func:`utils.files.images.read_image`). The IR image keeps its own size.
    ``num_classes`` limits the classes of a label (:func:`read_label`).

    Raises UserError for a missing folder, a folder without images, two files of one stem, an image without its
    partner, or a pair without its true map where ``truth`` is given, naming them.
    """

    def __init__(
        self,
        ir: str | Path,
        vi: str | Path,
        ir_warp: str | Path | None = None,
        flow: str | Path | None = None,
        label: str | Path | None = None,
        num_classes: int = len(CLASSES),
        truth: str | Path | None = None,
    ):
        ir, vi = Path(ir), Path(vi)
        if ir.is_file() and vi.is_file():
            self.names = [vi.stem]
            self.files = {"ir": {vi.stem: ir}, "vi": {vi.stem: vi}}
            if label is not None:
                self.files["label"] = {vi.stem: Path(label)}
        else:
            self.files = {"ir": images_by_stem(ir), "vi": images_by_stem(vi)}
            if ir_warp is not None:
                self.files["ir_warp"] = images_by_stem(Path(ir_warp))
            if label is not None:
                self.files["label"] = images_by_stem(Path(label))
            self.names = sorted(self.files["vi"])
            self._check_partners()
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

    def _check_partners(self) -> None:
        stems = {name for files in self.files.values() for name in files}
        for modality, files in self.files.items():
            missing = sorted(stems - files.keys())
            if missing:
                raise UserError(
                    f"{next(iter(files.values())).parent}: no {modality} image for {', '.join(missing[:5])}"
                    f"{' and others' if len(missing) > 5 else ''}; partners carry the same name"
                )

    def __getitem__(self, index: int) -> Pair:
        name = self.names[index]
        paths = {part: files[name] for part, files in self.files.items()}
        label_path = paths.pop("label", None)
        images = {modality: read_image(path, stretch=modality != "vi") for modality, path in paths.items()}
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
        return Pair(name, flow=flow, label=label, vi_to_ir=vi_to_ir, **images)

    def _true_map(self, name: str, images: dict[str, Tensor]) -> Tensor:
        truth = self.truths[name]
        for modality, (width, height) in (("ir", truth.ir_size), ("vi", truth.vi_size)):
            _, rows, columns = images[modality].shape
            if (rows, columns) != (height, width):
                raise UserError(
                    f"{self.truth}: {modality}_size of {name} is {width}x{height}, but its image {columns}x{rows}"
                )
        return truth.vi_to_ir


def images_by_stem(folder: Path) -> dict[str, Path]:
    """Map the stems of the image files in ``folder`` to their paths; UserError if there are none or two of one stem."""
    if not folder.is_dir():
        problem = "a file, but its partner is not" if folder.exists() else "no such file or folder"
        raise UserError(f"{folder}: {problem}")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in EXTENSIONS or path.name.startswith("."):
            continue
        if path.stem in files:
            raise UserError(f"{path}: {files[path.stem].name} has the same stem; keep one of them")
        files[path.stem] = path
    if not files:
        raise UserError(f"{folder}: no images in it (looked for {', '.join(EXTENSIONS)})")
    return files


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
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
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
    extra = {part: folder / part for part in parts if (folder / part).is_dir()}
    if (folder / TRUTH).is_file():
        extra["truth"] = folder / TRUTH
    return PairedFolders(folder / "ir", folder / "vi", num_classes=num_classes, **extra)
