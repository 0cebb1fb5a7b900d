"""The shipped weights keep their scores on one real pair of the embedded sample."""

import pytest
import torch

from datasets.sample import SamplePairs
from models import Pipeline
from utils.metrics.fusion import fusion_metrics, gray_levels
from utils.metrics.registration import registration_metrics


@pytest.fixture(scope="module")
def pair():
    pairs = SamplePairs()
    return pairs[pairs.names.index("dusk")]


@pytest.fixture(scope="module")
def pipeline():
    return Pipeline.load(registrar="matcher", device="cpu")


def test_the_matcher_registers_a_real_pair(pipeline, pair):
    registration = pipeline.register(pair.ir_warp[None], pair.vi[None])
    still = torch.zeros_like(registration.flow_ir2vi)
    before, after = (registration_metrics(flow, pair.flow[None]) for flow in (still, registration.flow_ir2vi))
    assert before["EPE"] > 27
    assert after["EPE"] < 4.2 and after["folding"] == 0


def test_the_fusion_of_a_real_pair_keeps_both_images(pipeline, pair):
    fused = pipeline.fuse(pair.ir[None], pair.vi[None])[0]
    images = (gray_levels(image) for image in (pair.ir, pair.vi, fused))
    scores = fusion_metrics(*images, ("MI", "VIF", "Qabf", "Nabf"))
    assert scores["MI"] > 6.3 and scores["VIF"] > 0.92 and scores["Qabf"] > 0.78 and scores["Nabf"] < 0.0095
