"""Seconds of a registration: frames alike, without and with the network, and unlike cameras, at several sizes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from datasets.cameras import unlike_cameras
from datasets.sample import SamplePairs
from models import load_model
from models.registration import Registrar
from models.warping import resize
from utils.benchmark.measure import markdown, seconds

HEADER = "search, IR, VI, seconds, without the displacement"
# The width and height of VI that files of two unlike cameras are made at.
VI_SIZES = ((640, 480), (1920, 1440), (4000, 3000))


@dataclass(frozen=True)
class Case:
    """A pair ``(1, C, height, width)``, the search that registers it, and whether the ``network`` competes."""

    search: str
    ir: Tensor
    vi: Tensor
    network: bool = False


def cases() -> list[Case]:
    """A pair of the embedded sample as it is deformed; and seen by an unlike camera, VI at each of ``VI_SIZES``."""
    pair = SamplePairs()[0]
    unlike = unlike_cameras(pair, seed=0)
    alike = [Case("narrow", pair.ir_warp[None], pair.vi[None], network) for network in (False, True)]
    return alike + [Case("wide", unlike.ir[None], resize(unlike.vi[None], size[::-1])) for size in VI_SIZES]


def table(device: torch.device, repeats: int) -> str:
    """A row for each case: the least seconds with and without the smooth displacement."""
    model = load_model().to(device)
    rows = []
    for case in cases():
        ir, vi = case.ir.to(device), case.vi.to(device)
        row = [
            case.search + ", network" * case.network,
            *(f"{image.shape[-1]}x{image.shape[-2]}" for image in (ir, vi)),
        ]
        network = (lambda ir, vi: model.register(ir, vi).flow_ir2vi) if case.network else None
        for elastic in (True, False):
            registrar = Registrar(case.search, network=network, elastic=elastic)
            row.append(f"{min(seconds(lambda: registrar(ir, vi), device, repeats)):.2f}")  # noqa: B023
        rows.append(row)
    return markdown(HEADER.split(", "), rows)
