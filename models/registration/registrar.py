"""Register two images of any two sizes by search, fit and decision."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from models.consensus import affine_part
from models.registration.affine import FINER_HYPOTHESIS, HYPOTHESIS, SAME_FRAME, Prior, align, fit
from models.registration.decision import LIMIT, Evidence, weigh
from models.registration.descriptors import Picture
from models.registration.elastic import elastic_cells
from models.registration.search import distinct, search, search_near
from models.registration.transform import Transform, points_matrix
from models.results import SMALLEST_SIDE
from models.warping import valid_mask
from utils.colour import luminance

SEARCHES = ("auto", "narrow", "wide")
SCALE, ROTATION = (0.4, 2.5), 12.0  # the range of the wide search: IR's field of view over VI's, and degrees
SIDES, FINEST_SIDE = (160, 320), 640  # longer sides of the levels in pixels, coarse to fine
LARGEST_IR = 1600  # IR's longer side in pixels, as a field of view 2.5 times VI's needs at the finest level
_NEAR_TRANSLATION, _NEAR_ROTATION = 0.08, 12.0  # of the longer side, and in degrees: range of the narrow search
_NEAR_STARTS, _HYPOTHESES, _FINALISTS = 4, 8, 3
_MARGIN = 0.15  # of VI's longer side: IR that is resampled beyond the hypothesis
_FINEST_ITERATIONS = 3  # of the fit, which starts within a pixel
_CERTAIN = 0.99  # confidence at which the other finalists are not looked at
# The network's map agrees with a fit if they differ by less than this share of the longer side, on average over VI.
_AGREEING = 0.01
FLAT = 2e-3  # a standard deviation (of full range) below which a frame is constant


@dataclass(frozen=True)
class Candidate:
    """Hold a ``hypothesis`` ``(3, 3)`` from VI's points to IR's, the ``fitted`` residual map ``(3, 3)`` applied before
    it, the ``prior`` of that fit, the ``margin`` of IR around VI available to it, the ``source`` and the evidence for
    the composed map; and the network's map, if it is ``agreeing``: the mean of both is a better answer than either.
    """

    hypothesis: Tensor
    fitted: Tensor
    prior: Prior
    margin: float
    source: str
    evidence: Evidence
    agreeing: Tensor | None = None

    @property
    def accepted(self) -> bool:
        return self.evidence.confidence() >= LIMIT

    @property
    def map(self) -> Tensor:
        """Compose both into one map ``(3, 3)``."""
        return self.hypothesis @ self.fitted


class Registrar:
    """Register an IR image to a VI image of another camera; only the decision's five constants are learnt.

    ``search``: "narrow" expects frames that agree to a few degrees; "wide" searches all scales of IR's field of view
    relative to VI's in ``scale``, and rotations up to ``rotation`` degrees; "auto" is narrow, then wide if the narrow
    candidate is not accepted or the sizes differ. ``network(ir, vi)`` gives a flow ``(1, 2, H, W)`` from gray images
    ``(1, 1, H, W)`` of one size, at most 320 px long; for files of one size, its affine part is one more start of the
    narrow fit. The better of both fits is taken, or the other if only that is accepted; where the network's own map
    agrees with it, the answer is the mean of the two. ``elastic``: whether a smooth
    displacement refines an accepted map.

    Raises ValueError for an unknown search or an empty range.
    """

    def __init__(
        self,
        search: str = "auto",
        scale: tuple[float, float] = SCALE,
        rotation: float = ROTATION,
        network: Callable[[Tensor, Tensor], Tensor] | None = None,
        elastic: bool = True,
    ):
        if search not in SEARCHES:
            raise ValueError(f"search {search!r}; choose from {', '.join(SEARCHES)}")
        if not 0 < scale[0] <= scale[1] or not 0 <= rotation <= 180:
            raise ValueError(f"scale {scale} is a range above 0, rotation {rotation} lies in 0 to 180")
        self.search, self.scale, self.rotation = search, scale, rotation
        self.network, self.elastic = network, elastic

    @torch.no_grad()
    def __call__(self, ir: Tensor, vi: Tensor) -> Transform:
        """Register ``ir`` ``(1, 1 or 3, h, w)`` to ``vi`` ``(1, 1 or 3, H, W)`` in [0, 1], on one device."""
        sizes = dict(vi_size=_size(vi), ir_size=_size(ir))
        best, ir_picture, vi_picture = self.decide(ir, vi)
        if best is None:
            return replace(Transform.of_frames(**sizes), accepted=False, confidence=0.0)
        map_, displacement = best.map, None
        if best.accepted:
            map_, displacement = _refine(best, ir_picture, vi_picture, self.elastic)
        matrix = torch.linalg.inv(points_matrix(_size(ir))) @ map_.double().cpu() @ points_matrix(_size(vi))
        return Transform(
            matrix / matrix[2, 2],
            **sizes,
            displacement=displacement,
            accepted=best.accepted,
            confidence=best.evidence.confidence(),
            source=best.source,
        )

    @torch.no_grad()
    def decide(self, ir: Tensor, vi: Tensor) -> tuple[Candidate | None, Picture, Picture]:
        """Return the best candidate, None where an image is constant, and the pictures that it was fitted to."""
        ir_picture = Picture.of(luminance(ir)).shrink(LARGEST_IR)
        vi_picture = Picture.of(luminance(vi)).shrink(FINEST_SIDE)
        if min(float(picture.gray.std()) for picture in (ir_picture, vi_picture)) < FLAT:
            return None, ir_picture, vi_picture
        candidates: list[Candidate] = []
        if self.search != "wide":
            candidates = self._narrow(ir_picture, vi_picture)
        near = candidates if _size(ir) == _size(vi) else []
        if self.search == "wide" or (self.search == "auto" and not any(candidate.accepted for candidate in near)):
            candidates = candidates + self._wide(ir_picture, vi_picture)
        # Where nothing is accepted, frames of one size are more likely alike than far apart.
        choice = [candidate for candidate in candidates if candidate.accepted] or near or candidates
        return max(choice, key=lambda candidate: candidate.evidence.confidence()), ir_picture, vi_picture

    def _narrow(self, ir: Picture, vi: Picture) -> list[Candidate]:
        identity = _identity(vi)
        coarse = align(ir, vi, identity[None], SIDES[0])
        starts = search_near(coarse, _NEAR_ROTATION, _NEAR_TRANSLATION, SAME_FRAME)[:_NEAR_STARTS]
        maps, value = fit(coarse, starts, SAME_FRAME)
        starts = {"narrow": maps[value.argmax()]}
        small = vi.shrink(SIDES[1])
        if self.network is not None and ir.full == vi.full and min(small.size) >= SMALLEST_SIDE:
            starts["network"] = self._network_map(ir.shrink(SIDES[1]), small)
        maps, value = fit(align(ir, vi, identity[None], SIDES[1]), torch.stack([*starts.values()]), SAME_FRAME)
        candidates = []
        for i in value.argsort(descending=True):
            evidence, source, agreeing = weigh(ir, vi, maps[i]), list(starts)[i], starts.get("network")
            if agreeing is not None and _distance(maps[i], agreeing, small) < _AGREEING:
                source = "both"
            else:
                agreeing = None
            candidates.append(Candidate(identity, maps[i], SAME_FRAME, 0.0, source, evidence, agreeing))
            if candidates[-1].accepted:
                break
        return candidates

    def _network_map(self, ir: Picture, vi: Picture) -> Tensor:
        """Return the affine map ``(3, 3)`` between points that most of the network's flow agrees on."""
        flow = self.network(ir.gray, vi.gray).float()
        constant, linear = affine_part(flow, valid_mask(flow))[0].split((1, 2), dim=1)
        moved = torch.cat((linear, constant), dim=1) / (max(vi.size) / 2)
        return _identity(vi) + torch.cat((moved, torch.zeros_like(moved[:1])))

    def _wide(self, ir: Picture, vi: Picture) -> list[Candidate]:
        hypotheses = search(ir, vi, self.scale, self.rotation, _HYPOTHESES).maps
        start = torch.eye(3, device=hypotheses.device).expand_as(hypotheses)
        maps, value = fit(align(ir, vi, hypotheses, SIDES[0], _MARGIN), start, HYPOTHESIS)
        order = value.argsort(descending=True)
        hypotheses, maps = hypotheses[order], maps[order]
        candidates = []
        # Several hypotheses often lead to one map.
        for i in distinct(hypotheses @ maps, vi.frame.corners(), _FINALISTS):
            level = align(ir, vi, hypotheses[i][None], SIDES[1], _MARGIN)
            fitted = fit(level, maps[i][None], FINER_HYPOTHESIS)[0][0]
            evidence = weigh(ir, vi, hypotheses[i] @ fitted)
            candidates.append(Candidate(hypotheses[i], fitted, FINER_HYPOTHESIS, _MARGIN, "wide", evidence))
            if evidence.confidence() >= _CERTAIN:
                break
        return candidates


def _refine(candidate: Candidate, ir: Picture, vi: Picture, elastic: bool) -> tuple[Tensor, Tensor | None]:
    """Fit the candidate at the finest level: its map ``(3, 3)`` between points and, if ``elastic``, the displacement
    ``(2, rows, columns)``, in pixels of the VI file, applied before the map.
    """
    level = align(ir, vi, candidate.hypothesis[None], FINEST_SIDE, candidate.margin)
    fitted = fit(level, candidate.fitted[None], candidate.prior, _FINEST_ITERATIONS)[0][0]
    if candidate.agreeing is not None:
        fitted = (fitted + candidate.agreeing) / 2
    map_ = candidate.hypothesis @ fitted
    if not elastic:
        return map_, None
    cells = elastic_cells(level, level.frame.pixels(fitted[None]))[0]
    # Move the displacement from after the fitted map to before it; its slight perspective is neglected.
    points = cells.flatten(1) / level.frame.scale.flatten(2)[0]
    moved = torch.linalg.inv(fitted[:2, :2]) @ points
    return map_, (moved * max(vi.full) / 2).view_as(cells).float().cpu()


def _distance(first: Tensor, second: Tensor, vi: Picture) -> float:
    """Return the mean distance between two maps ``(3, 3)`` of VI's points, as a share of the longer side."""
    here, there = (vi.frame.pixels(map_[None]) for map_ in (first, second))
    return float((here - there).norm(dim=1).mean()) / max(vi.size)


def _identity(vi: Picture) -> Tensor:
    return torch.eye(3, device=vi.gray.device)


def _size(image: Tensor) -> tuple[int, int]:
    return image.shape[-1], image.shape[-2]
