"""The stages: each learns, keeps frozen parts unchanged, and computes no term of weight 0."""

import math
from pathlib import Path

import pytest
import torch

from datasets.crops import CropSampler
from datasets.deformation import deform
from datasets.paired import Pair
from datasets.toy import toy_scene
from datasets.training_sets import Data
from losses.objectives import loss_weights, seg_objective
from models import SuperFusion, load_model, load_segmenter
from utils.files.images import write_image
from utils.training.config import Config, Train
from utils.training.optimizers import OPTIMIZERS
from utils.training.schedule import Average
from utils.training.stages import STAGES, fs
from utils.training.stages.r import r_step
from utils.training.stages.rf import rf_step
from utils.training.validation import registration_scores

REAL = Path(__file__).resolve().parents[4].parent / "shared" / "data"
CPU = torch.device("cpu")
FUSION = ["gradient", "ssim", "intensity"]
RF = ["photometric", "epe_register", "epe_deform", "smoothness", "border", *FUSION, "consistency"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two small labelled scenes, S/train."""
    root = tmp_path_factory.mktemp("data")
    for seed in range(2):
        scene = toy_scene(seed, 64, 96)
        for part, image in (("ir", scene.ir), ("vi", scene.vi), ("label", scene.label[None] / 255)):
            write_image(root / "S" / "train" / part / f"scene{seed}.png", image)
    return root


@pytest.mark.parametrize("source", ["toy", pytest.param("MSRS/train", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "stage, batch, steps, terms",
    [
        ("R", 2, 12, ["epe_register", "epe_deform"]),
        ("RF", 1, 12, ["photometric", "epe_register", "epe_deform", "gradient"]),
        ("F", 1, 28, ["gradient", "ssim", "selection"]),
        ("FS", 1, 24, ["gradient", "ssim"]),
        ("SEG", 2, 6, ["cross_entropy", "lovasz"]),
    ],
)
def test_the_loss_falls_on_what_a_stage_overfits(
    stage, batch, steps, terms, source, segmenter, untrained, small_scenes
):
    if source != "toy" and not (REAL / source).is_dir():
        pytest.skip("no real images beside the project")
    settings = Data(root=str(REAL), sets={source: 1.0}, scale=0.25, crop=48 if stage in ("R", "RF") else 32)
    if source != "toy":
        settings.hold_out, settings.val_pairs = 0.93, 1  # a pair or two to train on are enough
    weights = loss_weights(selection=0.2 if stage == "F" else 0.0)
    config = Config(stage, data=settings, loss=weights, train=Train(batch=2, fusion_batch=1))
    if stage == "FS":
        config.train.segmenter, config.train.init = str(segmenter), str(untrained)
    torch.manual_seed(0)
    made = STAGES[stage](config, CPU, 0)
    images, _ = made.draw(batch)
    made.network.train()
    optimizer = torch.optim.Adam([p for p in made.network.parameters() if p.requires_grad], lr=2e-3)
    history = []
    for _ in range(steps):
        losses = made.step(made.network, images)
        history.append({name: float(loss.detach()) for name, loss in losses.items()})
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
    first, last = history[0], history[-1]
    assert last["total"] < (0.6 if stage in ("R", "RF") else 0.85) * first["total"]
    for term in terms:
        assert last[term] < 0.95 * first[term], (term, first, last)


@pytest.fixture(scope="module")
def rf_batch(data):
    return CropSampler(Data(root=str(data), sets={"S/train": 1.0}, crop=32), 0).deformed(1)[0]


@pytest.mark.parametrize("term", RF)
def test_stage_rf_trains_without_each_term(term, rf_batch):
    torch.manual_seed(0)
    terms = rf_step(SuperFusion(), rf_batch, Config(loss=loss_weights(**{term: 0.0})))
    assert list(terms) == [name for name in [*RF, "total"] if name != term]
    terms["total"].backward()


def test_stage_r_trains_the_matcher_alone(data, untrained):
    settings = Data(root=str(data), sets={"S/train": 1.0}, crop=32, hold_out=0.5)
    config = Config("R", data=settings, loss=loss_weights(photometric=0.0), train=Train(init=str(untrained)))
    stage = STAGES["R"](config, CPU, 0)
    batch, picked = stage.draw(3)
    assert len(batch["ir"]) == len(picked) == 3  # pairs, not pairs and counterparts
    terms = stage.step(stage.network.train(), batch)
    assert list(terms) == [*RF[1:5], "total"]
    terms["total"].backward()
    assert all(p.grad is not None for p in stage.network.matcher.parameters())
    assert not any(p.requires_grad for p in stage.network.fusion.parameters())
    config.loss["photometric"] = 10.0
    assert list(stage.step(stage.network, batch)) == [*RF[:5], "total"]
    scores, sheets = stage.validate(stage.network.eval())
    assert list(scores) == ["EPE_official", "EPE_band_free"] and stage.best in scores and sheets


def test_a_network_that_no_term_needs_does_not_run(rf_batch, monkeypatch):
    model = SuperFusion()
    monkeypatch.setattr(model.fusion, "forward", None)
    terms = rf_step(model, rf_batch, Config(loss=loss_weights(fusion=0.0, consistency=0.0)))
    assert list(terms) == [*RF[:5], "total"]


def test_the_gradient_goes_through_the_frozen_segmenter(data, segmenter, untrained, monkeypatch):
    loaded = []
    monkeypatch.setattr(fs, "load_segmenter", lambda path: loaded.append(load_segmenter(path)) or loaded[-1])
    settings = Data(root=str(data), sets={"S/train": 1.0}, crop=32)
    weights = Train(segmenter=str(segmenter), init=str(untrained))
    config = Config("FS", data=settings, loss=loss_weights(fusion=0.0), train=weights)
    torch.manual_seed(0)
    stage = STAGES["FS"](config, CPU, 0)
    frozen = loaded[-1]
    before = {name: tensor.clone() for name, tensor in frozen.state_dict().items()}
    terms = stage.step(stage.network.train(), stage.draw(1)[0])
    assert list(terms) == ["semantic", "total"]
    terms["total"].backward()
    assert not any(module.training for module in frozen.modules()) and all(
        torch.equal(before[name], value) for name, value in frozen.state_dict().items()
    )
    assert all(p.grad is None and not p.requires_grad for p in frozen.parameters())
    assert all(p.grad is None and not p.requires_grad for p in stage.network.matcher.parameters())
    assert all(p.grad.abs().max() > 0 for p in stage.network.fusion.decoder.parameters())

    config.loss = loss_weights(semantic=0.0)
    stage = STAGES["FS"](config, CPU, 0)
    assert list(stage.step(stage.network, stage.draw(1)[0])) == [*FUSION, "total"]


@pytest.mark.parametrize("source", ["vi", "ir", "fused", "mixed"])
def test_the_segmenter_learns_from_the_image_asked_for(data, segmenter, untrained, source):
    settings = Data(root=str(data), sets={"S/train": 1.0}, crop=32, input=source, hold_out=0.5)
    config = Config("SEG", data=settings, train=Train(batch=3, segmenter=str(segmenter), init=str(untrained)))
    stage = STAGES["SEG"](config, CPU, 0)
    batch, _ = stage.draw(3)
    batch["vi"] = batch["vi"] * torch.tensor([1.0, 0.5, 0.2]).view(1, 3, 1, 1)  # in colour
    with torch.no_grad():
        fused = load_model(untrained).fuse(batch["ir"], batch["vi"])
        pictures = {"vi": batch["vi"], "ir": batch["ir"].expand(-1, 3, -1, -1), "fused": fused}
        turns = torch.stack([pictures[kind][i] for i, kind in enumerate(("fused", "vi", "ir"))])
        picture = (pictures | {"mixed": turns})[source]
        logits, auxiliary = stage.network.eval()(picture)
    terms = stage.step(stage.network, batch)
    expected = seg_objective({"logits": logits, "auxiliary": auxiliary}, batch["label"], config.loss)
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=1e-4)
    terms["total"].backward()
    assert all(parameter.grad is not None for parameter in stage.network.conv_out.parameters())
    scores, sheets = stage.validate(stage.network)
    assert list(scores) == ["mIoU"] and list(sheets) == ["scene1"]
    if source == "mixed":  # validates on the fused image
        config.data.input = "fused"
        assert STAGES["SEG"](config, CPU, 0).validate(stage.network)[0] == scores


def test_pairs_too_small_to_be_cropped_have_no_band_free_error():
    pairs = [deform(Pair(f"p{i}", torch.rand(1, 32, 32), torch.rand(3, 32, 32)), seed=0, band=True) for i in range(2)]
    scores = registration_scores(SuperFusion().eval(), pairs, CPU)
    assert scores["EPE_official"] > 0 and math.isnan(scores["EPE_band_free"])


@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("stage, step", [("R", r_step), ("RF", rf_step)])
def test_on_a_gpu_a_step_waits_for_nothing(stage, step, optimizer, no_waiting):
    config = Config(stage=stage)
    config.data.sets, config.data.crop, config.data.other_modality = {"toy": 1.0}, 64, 0.5
    config.loss["photometric"] = 0.0 if stage == "R" else 10.0
    sampler = CropSampler(config.data, 0, "cuda")
    model = SuperFusion().cuda().train()
    average = Average(model, 0.9)
    made = OPTIMIZERS[optimizer](model.matcher.parameters(), lr=1e-4)

    def once():
        batch, _ = sampler.deformed(4, counterparts=stage == "RF")
        with torch.autocast("cuda", torch.bfloat16):
            terms = step(model, batch, config)
        terms["total"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        made.step()
        made.zero_grad()
        average.update_parameters(model)
        return terms["total"].detach()

    for _ in range(3):  # kernels are selected, and an optimiser may prepare itself
        once()
    with no_waiting:
        losses = [once() for _ in range(4)]
    assert torch.stack(losses).isfinite().all()
