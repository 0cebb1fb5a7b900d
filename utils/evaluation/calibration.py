"""Fit the constants of :mod:`models.registration.decision` and measure the error rates of accepting.

python -m utils.evaluation.calibration --data_root DIR [--every 15] [--wrong_every 1] [--skip TEXT ...]
    [--workers 1] [--seed 0]

Reads aligned pairs ``DIR/SET/{train,val}/{ir,vi}/NAME`` and pairs of two cameras ``DIR/SET/rig/{ir,vi}/NAME`` with
``truth.json``. Each used pair becomes four cases: IR deformed within the published test ranges (narrow search) and IR
of an unlike camera (wide search), each with its own VI and with VI of another data set. A pair of a rig becomes the two
wide cases. A map is right if its mean error is below 10 px at a VI width of 640.

Fits the logistic model to the cases of train splits and prints its weights and bias. Then, for these constants and for
those in use, per split and search: right maps accepted, true pairs accepted, wrong maps of true pairs accepted, and
wrong pairs accepted.

docs/registration.md has the rates.
"""

import argparse
import math
import multiprocessing
import zlib
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from datasets.cameras import unlike_cameras
from datasets.deformation import TEST, random_deformation
from datasets.paired import Pair, PairedFolders
from models.registration.decision import LIMIT, Evidence
from models.registration.registrar import Registrar
from models.registration.transform import Transform, points_matrix
from models.warping import warp
from utils.errors import UserError, run
from utils.metrics.cameras import mean_error

SPLITS = ("train", "val", "rig")
_RIGHT = 10.0  # px at a VI width of 640
_RIDGE = 1e-3  # keeps the weights finite where the classes do not overlap


@dataclass(frozen=True)
class Source:
    """Hold a pair, ``pairs[index]``, of a ``split``; ``others[other]``, of another set, if a wrong pair is made."""

    split: str
    pairs: PairedFolders
    index: int
    others: PairedFolders | None
    other: int


@dataclass(frozen=True)
class Case:
    """Hold the evidence for the best candidate of a case, the error of its map in px (inf for a wrong pair), whether
    the pair is wrong (``unrelated``), whether the search was ``wide``, and the split.
    """

    name: str
    evidence: Evidence
    error: float
    unrelated: bool
    wide: bool
    split: str

    @property
    def right(self) -> bool:
        return self.error < _RIGHT

    @property
    def comparable(self) -> bool:
        """Whether the evidence is finite; a case without is never accepted."""
        return all(map(math.isfinite, astuple(self.evidence)))


def deformed(pair: Pair, seed: int) -> Pair:
    """Deform IR within the published test ranges; the map leaves out the elastic part."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{pair.name}".encode()))
    size = (pair.vi.shape[-2], pair.vi.shape[-1])
    deformation = random_deformation(1, size, TEST, generator)
    matrix = torch.cat((deformation.matrix[0], torch.tensor([[0.0, 0.0, 1.0]]))).double()
    warped = warp(pair.ir[None], deformation.displacement())[0]
    return Pair(pair.name, warped, pair.vi, vi_to_ir=torch.linalg.inv(matrix))


def sources(root: Path, every: int, skip: list[str], wrong_every: int = 1) -> list[Source]:
    """List every ``every``-th pair of the train splits and all pairs of the others, without names that contain a
    text of ``skip``.

    A wrong pair's VI comes from another data set, since train and val of a fixed camera share its background.
    """
    folders = [f for f in sorted(root.glob("*/*")) if f.name in SPLITS and (f / "ir").is_dir() and (f / "vi").is_dir()]
    sets = {
        folder: PairedFolders(
            folder / "ir", folder / "vi", truth=folder / "truth.json" if folder.name == "rig" else None
        )
        for folder in folders
    }
    by_set = {folder.parent.name: pairs for folder, pairs in sets.items()}
    if len(by_set) < 2:
        raise UserError(f"{root}: wrong pairs need two data sets SET/{{train,val}}/{{ir,vi}}")
    found = []
    for folder, pairs in sets.items():
        others = [other for name, other in by_set.items() if name != folder.parent.name]
        used = [i for i, name in enumerate(pairs.names) if not any(text in name for text in skip)]
        for number, index in enumerate(used[:: every if folder.name == "train" else 1]):
            other = others[number % len(others)]
            wrong = other if number % wrong_every == 0 else None
            found.append(Source(folder.name, pairs, index, wrong, (7 * number) % len(other)))
    return found


def cases(source: Source, seed: int = 0) -> list[Case]:
    """Register all cases of one pair."""
    pair = source.pairs[source.index]
    if source.split == "rig":
        made = [(True, pair)]
    else:
        made = [(False, deformed(pair, seed)), (True, unlike_cameras(pair, seed))]
    found = []
    for wide, true in made:
        registrar = Registrar("wide" if wide else "narrow")
        evidence, error = judge(registrar, true)
        found.append(Case(pair.name, evidence, error, False, wide, source.split))
        if source.others is not None:
            evidence, _ = judge(registrar, replace(true, vi=source.others[source.other].vi))
            found.append(Case(pair.name, evidence, math.inf, True, wide, source.split))
    return found


def judge(registrar: Registrar, pair: Pair) -> tuple[Evidence, float]:
    """Return the evidence for the best candidate of a pair and the error of its map in px at a VI width of 640."""
    best, _, _ = registrar.decide(pair.ir[None], pair.vi[None])
    if best is None:
        return Evidence(-math.inf, 0.0, 0.0, 0.0), math.inf
    vi_size, ir_size = ((image.shape[-1], image.shape[-2]) for image in (pair.vi, pair.ir))
    matrix = torch.linalg.inv(points_matrix(ir_size)) @ best.map.double() @ points_matrix(vi_size)
    return best.evidence, mean_error(Transform(matrix, vi_size, ir_size).map_vi2ir(), pair.vi_to_ir, ir_size[::-1])


def fit_logistic(values: Tensor, right: Tensor, rounds: int = 50) -> tuple[Tensor, float]:
    """Fit weights ``(F,)`` and bias of the logistic model of ``right`` ``(N,)`` (1 or 0) given ``values`` ``(N, F)``.

    Uses Newton's method on standardised values with a small ridge; both classes have the same total weight.
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


def calibrate(found: list[Case]) -> tuple[Tensor, float]:
    """Fit the logistic model to the cases of train splits."""
    used = [case for case in found if case.split == "train" and case.comparable]
    values = torch.tensor([astuple(case.evidence) for case in used], dtype=torch.float64)
    return fit_logistic(values, torch.tensor([case.right for case in used], dtype=torch.float64))


def fitted(weights: Tensor, bias: float) -> Callable[[Case], bool]:
    """Return whether a model of these ``weights`` ``(F,)`` and this ``bias`` accepts a case."""

    def accepts(case: Case) -> bool:
        values = torch.tensor(astuple(case.evidence), dtype=torch.float64)
        return case.comparable and float(torch.sigmoid(values @ weights + bias)) >= LIMIT

    return accepts


def in_use(case: Case) -> bool:
    """Return whether the registrar as it is accepts a case."""
    return case.evidence.confidence() >= LIMIT


def report(found: list[Case], accepts: Callable[[Case], bool]) -> Iterator[str]:
    """Yield a line of error rates for each split and search."""

    def share(chosen: list[Case]) -> str:
        return f"{sum(map(accepts, chosen))} of {len(chosen)}"

    for split in SPLITS:
        for wide in (False, True):
            chosen = [case for case in found if (case.split, case.wide) == (split, wide)]
            if chosen:
                true = [case for case in chosen if not case.unrelated]
                yield (
                    f"{split} {'wide' if wide else 'narrow'}: accepted {share([case for case in true if case.right])} "
                    f"right maps, {share(true)} true pairs, {share([case for case in true if not case.right])} wrong "
                    f"maps of true pairs, {share([case for case in chosen if case.unrelated])} wrong pairs"
                )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data_root", type=Path, required=True)
    parser.add_argument("--every", type=int, default=15, help="use every N-th pair of train splits; default: 15")
    parser.add_argument("--wrong_every", type=int, default=1, help="make wrong pairs of every N-th used; default: 1")
    parser.add_argument("--skip", nargs="*", default=[], help="leave out pairs whose name contains one of these texts")
    parser.add_argument("--workers", type=int, default=1, help="processes; default: 1")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    args = parser.parse_args(argv)
    chosen = sources(args.data_root, args.every, args.skip, args.wrong_every)
    with multiprocessing.get_context("spawn").Pool(args.workers, torch.set_num_threads, (1,)) as pool:
        results = pool.imap(partial(cases, seed=args.seed), chosen)
        found = [case for part in tqdm(results, total=len(chosen), disable=None) for case in part]
    weights, bias = calibrate(found)
    print(f"weights ({', '.join(f'{w:.4g}' for w in weights)}), bias {bias:.4g}")
    for title, accepts in (("With these", fitted(weights, bias)), ("With the constants in use", in_use)):
        print(f"{title}:")
        for line in report(found, accepts):
            print(line)


if __name__ == "__main__":
    run(main)
