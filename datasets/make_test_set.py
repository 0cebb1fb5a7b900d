"""Make a registration test set from aligned pairs, with the published deformation ranges and a seed.

python -m datasets.make_test_set --ir DIR --vi DIR --out DIR --name NAME --seed 0 [--band none]

Writes the authors' layout, which :func:`datasets.paired.test_set` reads::

    OUT/NAME/test/{ir,vi,ir_warp}/STEM.png      8 bit; ir_warp is the deformed IR image
    OUT/NAME/test/flow/STEM.mat                 the true displacement, in the format of datasets/paired.py

The deformation of an image depends only on the seed, the stem of its file name and its size, so any subset of the pairs
yields the same files everywhere. In the authors' sets a black band along the edges of ir_warp reveals the deformation;
with --band none the images are cropped to exclude it.
"""

import argparse
import io
from pathlib import Path

import numpy as np
import scipy.io
from torch import Tensor
from tqdm import tqdm

from datasets.deformation import deform
from datasets.paired import PairedFolders
from models.warping import flow_to_grid
from utils.errors import UserError, run
from utils.files.images import write_image
from utils.files.writing import write_bytes

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


def mat_file(flow: Tensor) -> bytes:
    """Encode ``flow`` ``(2, H, W)`` in pixels as the authors' flow file; equal flows yield equal bytes."""
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"flow": flow_to_grid(flow[None]).numpy().astype(np.float32)})
    # SciPy writes the date into the header text.
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
            deformed = deform(pairs[index], args.seed, args.band == "black")
        except UserError as error:
            failures.append(str(error))
            continue
        for part in ("ir", "vi", "ir_warp"):
            write_image(folder / part / f"{deformed.name}.png", getattr(deformed, part))
        write_bytes(folder / "flow" / f"{deformed.name}.mat", mat_file(deformed.flow))
    print(f"{len(pairs) - len(failures)} pairs in {folder}/")
    if failures:
        raise UserError("\nerror: ".join(failures))


if __name__ == "__main__":
    run(main)
