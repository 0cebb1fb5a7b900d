"""Tell whether the maps of several pairs are those of one fixed rig, and find the map that they share.

python -m utils.evaluation.rig RESULTS/transform [--save FILE]

Reads the transforms ``NAME.json`` that test.py wrote for pairs of one rig. The shared map is the homography that fits
the median over the accepted ones of where each takes a pixel; single wrong maps do not move it. Prints for each pair
how far its map is from the shared one: the mean distance, in pixels of IR, over the pixels of VI that IR shows.

``--save`` writes the shared map, which ``test.py --transform FILE`` applies to all pairs of the rig. Cameras beside
each other share a map for scenes that are far away, and none for near ones.
"""

import argparse
from pathlib import Path

import torch
from kornia.geometry.homography import find_homography_dlt
from torch import Tensor

from models.registration.transform import Transform
from utils.errors import UserError, run

_GRID = 33  # points along each side of VI, at which maps are compared


def grid_points(vi_size: tuple[int, int]) -> Tensor:
    """Return evenly spaced points ``(N, 2)`` of a VI file of ``vi_size`` (width, height), float64."""
    x, y = (torch.linspace(0, n - 1, _GRID, dtype=torch.float64) for n in vi_size)
    return torch.cartesian_prod(x, y)


def shared_map(transforms: list[Transform]) -> Transform:
    """Return the map that ``transforms``, of files of one pair of sizes, have in common; raises ValueError if empty."""
    if not transforms:
        raise ValueError("no transform to take the shared map from")
    first = transforms[0]
    points = grid_points(first.vi_size)
    there = torch.stack([transform.to_ir(points) for transform in transforms]).median(dim=0).values
    matrix = find_homography_dlt(points[None], there[None])[0]
    return Transform(matrix / matrix[2, 2], first.vi_size, first.ir_size, source="rig")


def distance(transform: Transform, shared: Transform) -> float:
    """Return the mean distance between two maps in pixels of IR, over the pixels of VI that IR shows by ``shared``;
    NaN if it shows none.
    """
    points = grid_points(shared.vi_size)
    there = shared.to_ir(points)
    shown = ((there >= 0) & (there <= there.new_tensor(shared.ir_size) - 1)).all(1)
    return float((transform.to_ir(points[shown]) - there[shown]).norm(dim=1).mean())


def read(folder: Path) -> dict[str, Transform]:
    """Read the transforms in ``folder`` by name; UserError if there are none, or they are not of one rig's files."""
    transforms = {path.stem: Transform.load(path) for path in sorted(folder.glob("*.json"))}
    if not transforms:
        raise UserError(f"{folder}: no transforms in it (NAME.json, which test.py writes into SAVE_DIR/transform)")
    sizes = {(transform.vi_size, transform.ir_size) for transform in transforms.values()}
    if len(sizes) > 1:
        raise UserError(f"{folder}: the pairs differ in size, so they are not of one rig: {sorted(sizes)}")
    return transforms


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("folder", type=Path, help="SAVE_DIR/transform of test.py")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the shared map")
    args = parser.parse_args(argv)
    transforms = read(args.folder)
    accepted = [transform for transform in transforms.values() if transform.accepted]
    if not accepted:
        raise UserError(f"{args.folder}: every pair was refused, so there is no shared map")
    shared = shared_map(accepted)
    distances = {name: distance(transform, shared) for name, transform in transforms.items()}
    for name, transform in transforms.items():
        decision = "accepted" if transform.accepted else "refused"
        print(f"{name}: {decision}, confidence {transform.confidence:.2f}, {distances[name]:.1f} px of IR off")
    values = torch.tensor([distances[name] for name, transform in transforms.items() if transform.accepted])
    print(
        f"accepted {len(accepted)} of {len(transforms)}; these are off the shared map by {values.median():.1f} px of "
        f"IR (median), {values.max():.1f} at most"
    )
    if args.save:
        shared.save(args.save)


if __name__ == "__main__":
    run(main)
