"""Find the constants of :mod:`models.registration.decision`: how evidence becomes a confidence.

python -m utils.evaluation.calibration --data_root DIR [--every 3] [--seed 0]

Reads aligned pairs ``DIR/SET/{train,val}/{ir,vi}/NAME``. Each of every so many becomes four cases: a deformed IR image
and one of an unlike camera, each with its own VI image and with one of another scene. A case counts as right if the
mean error of the best candidate's map is below 10 px at a VI width of 640. Prints the logistic model's weights and
bias, and the share of right cases accepted and of wrong scenes accepted.
"""

import argparse
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import torch
from kornia.geometry.linalg import transform_points
from torch import Tensor
from tqdm import tqdm

from datasets.cameras import CameraPair, unlike_cameras
from datasets.deformation import TEST, random_deformation
from datasets.paired import PairedFolders
from models.registration.decision import LIMIT, Evidence
from models.registration.registrar import Registrar
from models.registration.transform import Transform, points_matrix
from models.warping import pixel_grid, warp
from utils.errors import UserError, run

_RIGHT = 10.0  # px at a VI width of 640
_RIDGE = 1e-3  # keeps the weights finite where the classes do not overlap
_POINTS = 40  # across VI's frame


@dataclass(frozen=True)
class Case:
    """The evidence for the best candidate of a case, whether the map is right, and whether the scenes are two."""

    evidence: Evidence
    right: bool
    unrelated: bool


def deformed(name: str, ir: Tensor, vi: Tensor, seed: int) -> CameraPair:
    """A pair of one frame but for a deformation of the published test ranges; the map leaves its elastic part out."""
    generator = torch.Generator().manual_seed(hash_of(name, seed))
    deformation = random_deformation(1, tuple(vi.shape[-2:]), TEST, generator)
    matrix = torch.cat((deformation.matrix[0], torch.tensor([[0.0, 0.0, 1.0]]))).double()
    return CameraPair(warp(ir[None], deformation.displacement())[0], vi, torch.linalg.inv(matrix))


def hash_of(name: str, seed: int) -> int:
    """A number that depends on both, the same on any machine."""
    return sum((i + 1) * ord(letter) for i, letter in enumerate(name)) + 100003 * seed


def map_error(transform: Transform, vi_to_ir: Tensor) -> float:
    """The mean distance of a transform from the true map, over VI's pixels that both images show, in VI's pixels at a
    VI width of 640; NaN where no pixel is shown by both.
    """
    width, height = transform.vi_size
    points = (pixel_grid(_POINTS, _POINTS, vi_to_ir).flatten(2)[0].T + 0.5) / _POINTS
    points = points * points.new_tensor([width, height]) - 0.5
    true = transform_points(vi_to_ir[None], points[None])[0]
    shown = ((true >= 0) & (true <= true.new_tensor(transform.ir_size) - 1)).all(dim=1)
    points, true = points[shown], true[shown]
    beside = transform_points(torch.linalg.inv(vi_to_ir)[None], transform.to_ir(points)[None])[0]
    return float((beside - points).norm(dim=1).mean() * 640 / width)


def cases(folders: PairedFolders, others: PairedFolders, every: int, seed: int) -> list[Case]:
    """All cases of one set; the other scenes are those of ``others``, for a camera that stands still sees but one."""
    found = []
    registrars = ((Registrar("narrow"), deformed), (Registrar("wide"), unlike_cameras))
    for index in tqdm(range(0, len(folders), every), disable=None):
        pair, other = folders[index], others[index % len(others)]
        for registrar, make in registrars:
            made = make(pair.name, pair.ir, pair.vi, seed)
            found += [judge(registrar, made, unrelated=False), judge(registrar, replace(made, vi=other.vi), True)]
    return found


def judge(registrar: Registrar, pair: CameraPair, unrelated: bool) -> Case:
    """The case of a pair; the map of an ``unrelated`` one is wrong whatever it is."""
    best, _, _ = registrar.decide(pair.ir[None], pair.vi[None])
    if best is None:
        return Case(Evidence(0.0, 0.0, 0.0, 0.0), False, unrelated)
    sizes = [(image.shape[-1], image.shape[-2]) for image in (pair.vi, pair.ir)]
    matrix = torch.linalg.inv(points_matrix(sizes[1])) @ best.map.double() @ points_matrix(sizes[0])
    right = not unrelated and map_error(Transform(matrix, *sizes), pair.vi_to_ir) < _RIGHT
    return Case(best.evidence, right, unrelated)


def fit_logistic(values: Tensor, right: Tensor, rounds: int = 50) -> tuple[Tensor, float]:
    """Weights ``(F,)`` and bias of the logistic model of ``right`` ``(N,)`` (1 or 0) given ``values`` ``(N, F)``, by
    Newton's method on standardised values with a small ridge; both classes weigh the same.
    """
    mean, deviation = values.mean(0), values.std(0).clamp(min=1e-6)
    inputs = torch.cat(((values - mean) / deviation, torch.ones_like(values[:, :1])), dim=1)
    weight = torch.where(right > 0, 0.5 / right.sum(), 0.5 / (1 - right).sum())[:, None]
    model, ridge = inputs.new_zeros(inputs.shape[1]), _RIDGE * torch.eye(inputs.shape[1], dtype=inputs.dtype)
    ridge[-1, -1] = 0
    for _ in range(rounds):
        probability = torch.sigmoid(inputs @ model)[:, None]
        gradient = (inputs * weight * (probability - right[:, None])).sum(0) + ridge @ model
        hessian = (inputs * weight * probability * (1 - probability)).T @ inputs + ridge
        model = model - torch.linalg.solve(hessian, gradient)
    weights = model[:-1] / deviation
    return weights, float(model[-1] - weights @ mean)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data_root", type=Path, required=True)
    parser.add_argument("--every", type=int, default=3, help="take every so many pairs; default: 3")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    args = parser.parse_args(argv)
    folders = [folder for folder in sorted(args.data_root.glob("*/*")) if folder.name in ("train", "val")]
    sets = [PairedFolders(f / "ir", f / "vi") for f in folders if (f / "ir").is_dir() and (f / "vi").is_dir()]
    if len(sets) < 3:
        raise UserError(f"{args.data_root}: three sets SET/{{train,val}}/{{ir,vi}} are needed for pairs of two scenes")
    found = []
    for index, pairs in enumerate(sets):
        # Two on, for train and val of one set are neighbours.
        found += cases(pairs, sets[(index + 2) % len(sets)], args.every, args.seed)
    compared = [case for case in found if all(map(torch.isfinite, torch.tensor(astuple(case.evidence))))]
    values = torch.tensor([astuple(case.evidence) for case in compared], dtype=torch.float64)
    right = torch.tensor([case.right for case in compared], dtype=torch.float64)
    weights, bias = fit_logistic(values, right)
    accepted = torch.sigmoid(values @ weights + bias) >= LIMIT
    unrelated = torch.tensor([case.unrelated for case in compared])
    print(f"weights ({', '.join(f'{w:.4g}' for w in weights)}), bias {bias:.4g}, {len(found)} cases")
    print(f"right maps accepted: {accepted[right > 0].double().mean():.3f}")
    print(f"wrong scenes accepted: {int(accepted[unrelated].sum())} of {sum(case.unrelated for case in found)}")


if __name__ == "__main__":
    run(main)
