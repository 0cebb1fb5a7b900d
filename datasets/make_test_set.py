"""Make a registration test set from aligned pairs, with a seed: deformed like the published ones, or by unlike cameras.

python -m datasets.make_test_set --ir DIR --vi DIR --out DIR --name NAME --seed 0 [--band none]
python -m datasets.make_test_set --ir DIR --vi DIR --out DIR --name NAME --seed 0 --cameras [--rotation 180 ...]

Both write a layout that :func:`datasets.paired.test_set` reads, 8-bit images. The first, the authors' layout::

    OUT/NAME/test/{ir,vi,ir_warp}/STEM.png      ir_warp is the deformed IR image
    OUT/NAME/test/flow/STEM.mat                 the true displacement, in the format of datasets/paired.py

With --cameras the IR image is that of another camera: with another field of view, rotated, tilted, of another size::

    OUT/NAME/test/{ir,vi}/STEM.png
    OUT/NAME/test/truth.json                    the true maps, in the format of datasets/truth.py

The deformation or camera of an image depends only on the seed, the stem of its file name and its size, so any subset of
the pairs yields the same files everywhere. In the authors' sets a black band along the edges of ir_warp reveals the
deformation; with --band none the images are cropped to exclude it.
"""

import argparse
import io
import re
import sys
from pathlib import Path

import numpy as np
import scipy.io
from torch import Tensor
from tqdm import tqdm

from datasets.cameras import Cameras, unlike_cameras
from datasets.deformation import deform
from datasets.paired import Pair, PairedFolders
from datasets.truth import TRUTH, Truth, truth_file
from models.warping import flow_to_grid
from utils.errors import UserError, run
from utils.files.images import write_image
from utils.files.writing import write_bytes
from utils.notes import Notes

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
    parser.add_argument("--cameras", action="store_true", help="pairs of unlike cameras in place of deformed ones")
    cameras = parser.add_argument_group("with --cameras")
    default = Cameras()
    sensors = " ".join(f"{width}x{height}" for width, height in default.sensors)
    cameras.add_argument(
        "--view",
        type=float,
        nargs=2,
        metavar=("MIN", "MAX"),
        default=default.view,
        help="IR's field of view as a share of VI's width, in (0, 1] (default: 0.45 1)",
    )
    cameras.add_argument(
        "--rotation", type=float, metavar="DEGREES", default=default.rotation, help="largest angle (default: 8)"
    )
    cameras.add_argument(
        "--tilt",
        type=float,
        metavar="SHARE",
        default=default.tilt,
        help="how much the scale may differ between the middle of IR's frame and its edge, below 0.5 (default: 0.03)",
    )
    cameras.add_argument(
        "--sensors",
        type=_size,
        nargs="+",
        metavar="WxH",
        default=default.sensors,
        help=f"sizes of IR's frame (default: {sensors})",
    )
    args = parser.parse_args(argv)
    if args.cameras and args.band == "none":
        parser.error("--band goes without --cameras, which leaves no band")
    if not args.cameras and (args.view, args.rotation, args.tilt, args.sensors) != tuple(vars(default).values()):
        parser.error("--view, --rotation, --tilt and --sensors go with --cameras")
    if not (0 < args.view[0] <= args.view[1] <= 1 and 0 <= args.rotation <= 180 and 0 <= args.tilt < 0.5):
        parser.error("--view lies in (0, 1], --rotation in [0, 180] and --tilt in [0, 0.5)")
    return args


def _size(text: str) -> tuple[int, int]:
    """(width, height) of "WxH"."""
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 640x512")
    return int(match[1]), int(match[2])


def mat_file(flow: Tensor) -> bytes:
    """Encode ``flow`` ``(2, H, W)`` in pixels as the authors' flow file; equal flows yield equal bytes."""
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"flow": flow_to_grid(flow[None]).numpy().astype(np.float32)})
    # SciPy writes the date into the header text.
    return _HEADER.ljust(_HEADER_LENGTH) + buffer.getvalue()[_HEADER_LENGTH:]


def make_pair(pair: Pair, args: argparse.Namespace) -> Pair:
    """Make a test pair from an aligned one as the arguments say; UserError if it cannot be made."""
    if not args.cameras:
        return deform(pair, args.seed, args.band == "black")
    cameras = Cameras(tuple(args.view), args.rotation, args.tilt, tuple(args.sensors))
    return unlike_cameras(pair, args.seed, cameras)


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    pairs = PairedFolders(args.ir, args.vi)
    folder = args.out / args.name / "test"
    if folder.exists():
        raise UserError(f"{folder}: exists already; choose another --out or --name, or remove it")
    failures, truths, notes = [], {}, Notes(lambda line: tqdm.write(line, file=sys.stderr))
    for line in pairs.lines:
        print(f"note: {line}", file=sys.stderr)
    for index in tqdm(range(len(pairs)), unit="pair", disable=None):
        try:
            pair = pairs[index]
            notes.tell(pair.name, pair.notes)
            made = make_pair(pair, args)
        except UserError as error:
            failures.append(str(error))
            continue
        for part in ("ir", "vi") if args.cameras else ("ir", "vi", "ir_warp"):
            write_image(folder / part / f"{made.name}.png", getattr(made, part))
        if args.cameras:
            sizes = ((image.shape[-1], image.shape[-2]) for image in (made.vi, made.ir))
            truths[made.name] = Truth(made.vi_to_ir, *sizes)
        else:
            write_bytes(folder / "flow" / f"{made.name}.mat", mat_file(made.flow))
    notes.close()
    if truths:
        write_bytes(folder / TRUTH, truth_file(truths))
    print(f"{len(pairs) - len(failures)} pairs in {folder}/")
    if failures:
        raise UserError("\nerror: ".join(failures))


if __name__ == "__main__":
    run(main)
