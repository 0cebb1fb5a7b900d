"""Rigs: two cameras that are fixed to each other, so that one transform serves all their pairs.

:func:`calibrate` makes that transform from the single transforms of many pairs (:func:`average`), refined on the
descriptors of all of them together (:class:`JointLevel`). :class:`RigRegistrar` starts from it. A rig is a
:class:`models.registration.transform.Transform`, whose ``confidence`` is how probable it is that it suits another pair.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from models.registration.affine import FINER_HYPOTHESIS, Prior, align, fit
from models.registration.averaging import anchors, distance, robust_mean
from models.registration.decision import LIMIT, weigh
from models.registration.descriptors import Comparison, Level, Picture
from models.registration.elastic import elastic_cells
from models.registration.registrar import FINEST_SIDE, LARGEST_IR, SIDES
from models.registration.transform import Transform, points_matrix
from models.warping import content_mask
from utils.colour import luminance

JOINT = 48  # pairs at most that are refined together, as memory grows with them: 25 MB each
_MARGIN = 0.05  # of VI's longer side: IR that is resampled beyond the frame, for the fit
_AGREES = 10 / 640  # of VI's width: a pair whose own transform is nearer agrees with the rig
# What a pair's map differs from its rig's by, as parallax and a mount that gives way move things by a few pixels: five
# pixels of 640, or half a degree, or half a percent cost 0.0025 of correlation.
RIG = Prior(scale=100.0, rotation=30.0, shear=100.0, shift=10.0, perspective=100.0)


@dataclass(frozen=True)
class Rig:
    """The ``transform`` of a rig; of each pair that it was made from, the distance of the pair's own transform from it,
    in pixels of VI (``distances``), and the weight in [0, 1] with which that entered (``weights``).
    """

    transform: Transform
    distances: list[float]
    weights: list[float]

    @property
    def agree(self) -> list[bool]:
        """Tell of each pair whether its own transform agrees with the rig."""
        return [d < _AGREES * self.transform.vi_size[0] for d in self.distances]


def average(transforms: Sequence[Transform]) -> Rig:
    """Make a rig of single transforms, those of low confidence and far from the others with less weight.

    All are of files of the same two sizes.
    """
    weights = torch.tensor([t.confidence for t in transforms], dtype=torch.float64)
    mean, weights = robust_mean(transforms, weights)
    return _judged(mean, transforms, weights.tolist())


def refine(
    rig: Rig, transforms: Sequence[Transform], pairs: Iterable[tuple[Tensor, Tensor]], weights: list[float]
) -> Rig:
    """Refine a rig on ``pairs``, of an IR ``(1, 1 or 3, h, w)`` and a VI image ``(1, 1 or 3, H, W)`` in [0, 1], by one
    homography and one smooth displacement for all; each pair counts by its entry of ``weights``.
    """
    vi_size, ir_size = rig.transform.vi_size, rig.transform.ir_size
    to_points, from_points = points_matrix(vi_size), torch.linalg.inv(points_matrix(vi_size))
    start = (points_matrix(ir_size) @ rig.transform.vi_to_ir @ from_points).float()
    pictures = [_pictures(ir, vi) for ir, vi in pairs]

    def level(map_: Tensor) -> Any:
        return JointLevel([align(ir, vi, map_[None], SIDES[1], _MARGIN) for ir, vi in pictures], weights)

    residual, _ = fit(level(start), torch.eye(3)[None], FINER_HYPOTHESIS)
    fitted = start @ residual[0]
    joint = level(fitted)
    displacement = _in_pixels(elastic_cells(joint, joint.frame.grid), joint, vi_size)
    matrix = torch.linalg.inv(points_matrix(ir_size)) @ fitted.double() @ to_points
    transform = replace(rig.transform, vi_to_ir=matrix / matrix[2, 2], displacement=displacement)
    return _judged(transform, transforms, rig.weights)


def _judged(transform: Transform, transforms: Sequence[Transform], weights: list[float]) -> Rig:
    """Make the rig of a ``transform``. Of n pairs of which k agree, the next one does with (k + 1) / (n + 2)
    (Laplace's rule of succession).
    """
    points = anchors(transform)
    rig = Rig(transform, [distance(t, transform, points) for t in transforms], weights)
    confidence = (sum(rig.agree) + 1) / (len(transforms) + 2)
    source = f"rig of {len(transforms)} pair" + ("s" if len(transforms) > 1 else "")
    return replace(rig, transform=replace(transform, accepted=True, confidence=confidence, source=source))


class JointLevel:
    """Levels of several pairs as one, whose correlation is the sum of theirs by ``weights``; it serves
    :func:`models.registration.affine.fit` and :func:`models.registration.elastic.elastic_cells` in place of a
    :class:`models.registration.descriptors.Level`. The levels have one size and one margin.
    """

    def __init__(self, levels: list[Level], weights: list[float]):
        self.levels, self.weights = levels, weights
        self.frame, self.vi = levels[0].frame, levels[0].vi

    def compare(self, pixels: Tensor) -> "JointComparison":
        """Compare each pair's IR, sampled at ``pixels`` ``(1, 2, h, w)``, with its VI."""
        return JointComparison([level.compare(pixels) for level in self.levels], self.weights)

    def normal_equations(self, compared: "JointComparison") -> tuple[Tensor, Tensor]:
        """Sum the terms of :meth:`models.registration.descriptors.Level.normal_equations`, in units of correlation."""
        terms = [level.normal_equations(part) for level, part in zip(self.levels, compared.parts)]
        shares = [w / part.energy.clamp(min=1e-6).view(-1, 1, 1, 1) for w, part in zip(self.weights, compared.parts)]
        second, first = (torch.stack([s * t for s, t in zip(shares, same)]).sum(0) for same in zip(*terms))
        return second, first


@dataclass(frozen=True)
class JointComparison:
    """The comparisons of several pairs: their summed ``correlation`` ``(1,)``, in units of which ``energy`` is 1."""

    parts: list[Comparison]
    weights: list[float]

    @property
    def correlation(self) -> Tensor:
        return torch.stack([w * part.correlation for w, part in zip(self.weights, self.parts)]).sum(0)

    @property
    def energy(self) -> Tensor:
        return torch.ones_like(self.parts[0].correlation)

    def where(self, keep: Tensor, other: "JointComparison") -> "JointComparison":
        """Return this one if ``keep`` ``(1,)``, else ``other``."""
        return self if bool(keep) else other


class RigRegistrar:
    """Register pairs of a rig, from its transform alone: a fit nearby, under the prior that it is nearly right.

    The evidence that is asked for is less than without a rig, as the transform is ``rig.confidence`` probable before
    the pair is looked at. ``elastic`` as of :class:`models.registration.registrar.Registrar`.
    """

    def __init__(self, rig: Transform, elastic: bool = True):
        self.rig, self.elastic = rig, elastic

    @torch.no_grad()
    def __call__(self, ir: Tensor, vi: Tensor) -> Transform:
        """Register ``ir`` ``(1, 1 or 3, h, w)`` to ``vi`` ``(1, 1 or 3, H, W)`` in [0, 1], on one device.

        A refused answer is the rig's own transform. Raises ValueError for images of other sizes than the rig's.
        """
        check_sizes(self.rig, ir, vi)
        ir, vi = luminance(ir), Picture.of(luminance(vi)).shrink(FINEST_SIDE)
        warped, inside = self.rig.warp_ir(ir, "bilinear")
        content = (self.rig.warp_ir(content_mask(ir), "bilinear")[0] > 0.99).float()
        near = Picture(warped, content * inside, (warped.shape[-2], warped.shape[-1])).shrink(FINEST_SIDE)

        identity = torch.eye(3, device=warped.device)
        maps = identity[None]
        for side in SIDES:
            maps, _ = fit(align(near, vi, identity[None], side), maps, RIG)
        judged = [(weigh(near, vi, map_).confidence(), map_) for map_ in (identity, maps[0])]
        evidence, best = max(judged, key=lambda candidate: candidate[0])
        confidence = _posterior(evidence, self.rig.confidence)
        if confidence < LIMIT:
            return replace(self.rig, accepted=False, confidence=confidence, source="rig")
        displacement = None
        if self.elastic:
            level = align(near, vi, best[None], FINEST_SIDE)
            displacement = _in_pixels(elastic_cells(level, level.frame.grid), level, self.rig.vi_size)
        points = points_matrix(self.rig.vi_size)
        matrix = torch.linalg.inv(points) @ best.double().cpu() @ points
        moved = Transform(matrix / matrix[2, 2], self.rig.vi_size, self.rig.vi_size, displacement)
        return replace(moved.then(self.rig), accepted=True, confidence=confidence, source="rig, refined")


def check_sizes(transform: Transform, ir: Tensor, vi: Tensor) -> None:
    """Raise ValueError if ``ir`` and ``vi`` ``(..., H, W)`` are not of the sizes of the transform's files."""
    for name, image, size in (("IR", ir, transform.ir_size), ("VI", vi, transform.vi_size)):
        if tuple(image.shape[-2:]) != size[::-1]:
            raise ValueError(
                f"{name} is {image.shape[-1]}x{image.shape[-2]}, but the transform is for {size[0]}x{size[1]}"
            )


def _pictures(ir: Tensor, vi: Tensor) -> tuple[Picture, Picture]:
    """Reduce a pair to what the levels of :func:`refine` need."""
    ir, vi = Picture.of(luminance(ir)).shrink(LARGEST_IR), Picture.of(luminance(vi)).shrink(SIDES[1])
    return ir, vi


def _in_pixels(cells: Tensor, level: Level, vi_size: tuple[int, int]) -> Tensor:
    """Convert a displacement ``(1, 2, h, w)`` in pixels of ``level`` to ``(2, h, w)`` in those of the VI file."""
    return (cells / level.frame.scale * max(vi_size) / 2)[0].float().cpu()


def _posterior(evidence: float, prior: float) -> float:
    """Combine a confidence, which takes right and wrong to be equally likely, with a prior probability (Bayes)."""
    right, wrong = evidence * prior, (1 - evidence) * (1 - prior)
    return right / (right + wrong) if right + wrong > 0 else 0.0
