"""Make a registration test set from aligned pairs, with the published deformation ranges and a seed.

python -m datasets.make_test_set --ir DIR --vi DIR --out DIR --name NAME --seed 0 [--band none]

Writes the authors' layout, which :func:`datasets.paired.test_set` reads::

    OUT/NAME/test/{ir,vi,ir_warp}/STEM.png      8 bit; ir_warp is the deformed IR image
    OUT/NAME/test/flow/STEM.mat                 the true displacement (datasets/paired.py says in which form)

An image's deformation depends on the seed, the stem of its file name and its size only, so any subset of the pairs
gives the same files anywhere. In the authors' sets a black band along the edges of ir_warp gives the deformation away;
with --band none the images are cropped so that there is none.
"""

import argparse
import hashlib
import io
from pathlib import Path

import numpy as np
import scipy.io
import torch
from torch import Tensor
from tqdm import tqdm

from datasets.deformation import TEST, random_deformation
from datasets.paired import Pair, PairedFolders
from models.warping import flow_to_grid, valid_mask, warp
from utils.errors import UserError, run
from utils.files.images import write_bytes, write_image
from utils.metrics.registration import central_rectangle

_HEADER = b"MATLAB 5.0 MAT-file, made by datasets/make_test_set.py"
_HEADER_LENGTH = 116


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--ir", type=Path, required=True, help="a folder of infrared images, aligned with those of --vi"
    )
    parser.add_argument("--vi", type=Path, required=True, help="a folder of visible images")
    parser.add_argument("--out", type=Path, required=True, help="the data root to make")
    parser.add_argument("--name", required=True, help="the name of the set")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--band", choices=("black", "none"), default="black", help="default: black, as published")
    return parser.parse_args(argv)


def true_displacement(name: str, size: tuple[int, int], seed: int) -> Tensor:
    """The displacement ``(1, 2, H, W)`` in pixels of the image ``name`` of ``size`` (height, width)."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    return random_deformation(1, size, TEST, generator).displacement()


def deform(pair: Pair, seed: int, band: bool) -> Pair:
    """The test pair made of an aligned one; without the ``band`` it is cropped. UserError if it cannot be."""
    size = tuple(pair.vi.shape[-2:])
    if pair.ir.shape[-2:] != size:
        sizes = " and ".join(f"{image.shape[-2]}x{image.shape[-1]}" for image in (pair.ir, pair.vi))
        raise UserError(f"{pair.name}: the images differ in size (height x width): {sizes}; they must be aligned")
    flow = true_displacement(pair.name, size, seed)
    made = Pair(pair.name, pair.ir, pair.vi, warp(pair.ir[None], flow)[0], flow[0])
    if band:
        return made
    try:
        rows, columns = central_rectangle(valid_mask(flow)[0, 0])
    except ValueError as error:
        raise UserError(f"{pair.name}: {error}; choose another --seed") from error
    # A displacement does not depend on where the frame begins, so the crop's is the crop of it.
    return Pair(pair.name, *(x[:, rows, columns] for x in (made.ir, made.vi, made.ir_warp, made.flow)))


def mat_file(flow: Tensor) -> bytes:
    """The authors' flow file of ``flow`` ``(2, H, W)`` in pixels; the same bytes for the same flow."""
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"flow": flow_to_grid(flow[None]).numpy().astype(np.float32)})
    # SciPy writes the date into the text at the head.
    return _HEADER.ljust(_HEADER_LENGTH) + buffer.getvalue()[_HEADER_LENGTH:]


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    pairs = PairedFolders(args.ir, args.vi)
    folder = args.out / args.name / "test"
    if folder.exists():
        raise UserError(f"{folder}: exists already; choose another --out or --name, or remove it")
    failures = []
    for index in tqdm(range(len(pairs)), unit="pair", disable=None):
        try:
            made = deform(pairs[index], args.seed, args.band == "black")
        except UserError as error:
            failures.append(str(error))
            continue
        for part in ("ir", "vi", "ir_warp"):
            write_image(folder / part / f"{made.name}.png", getattr(made, part))
        write_bytes(folder / "flow" / f"{made.name}.mat", mat_file(made.flow))
    print(f"{len(pairs) - len(failures)} pairs in {folder}/")
    if failures:
        raise UserError("\nerror: ".join(failures))


if __name__ == "__main__":
    run(main)
