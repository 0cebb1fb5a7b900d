"""The objectives: named terms, their weights and total, and the counterpart that each term uses."""

import pytest
import torch

from datasets.crops import CropSampler
from datasets.training_sets import Data
from losses import flow, fusion, segmentation
from losses.objectives import (
    FUSION_TERMS,
    SEGMENTER_TERMS,
    Term,
    f_objective,
    fs_objective,
    loss_weights,
    r_objective,
    rf_objective,
    seg_objective,
)
from losses.target import target
from models.warping import resize_flow, warp
from utils.errors import UserError

WAYS = ("ir2vi", "vi2ir")
FUSION = ("gradient", "ssim", "intensity", "selection", "detail", "edges")
OURS = {"selection": 0.2, "detail": 0.1, "edges": 0.3}  # which are 0 by default
RF = ("photometric", "epe_register", "epe_deform", "smoothness", "border", *FUSION, "consistency")
N, SIZE = 2, 24
FIRST, SECOND = slice(0, N), slice(N, None)


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def batch():
    images = {"ir": noise(2 * N, 1, SIZE, SIZE, seed=1), "y": noise(2 * N, 1, SIZE, SIZE, seed=2)}
    flows = {f"flow_{way}": 8 * noise(2 * N, 2, SIZE, SIZE, seed=i) - 4 for i, way in enumerate(WAYS, 3)}
    valid = {f"valid_{way}": (noise(2 * N, 1, SIZE, SIZE, seed=i) > 0.2).float() for i, way in enumerate(WAYS, 5)}
    return images | {"target_ir": images["ir"].roll(N, 0), "target_y": images["y"].roll(N, 0)} | flows | valid


def result():
    image = [noise(2 * N, 1, SIZE, SIZE, seed=i) for i in range(11, 16)]
    flows = {way: [8 * noise(2 * N, 2, n, n, seed=n) - 4 for n in (3, 6, SIZE)] for way in WAYS}
    fused = dict(zip(("fused", "fused_ir", "fused_vi", "warped_ir", "warped_vi"), image))
    return {"flows": flows, "fused_valid": (noise(2 * N, 1, SIZE, SIZE, seed=17) > 0.01).float()} | fused


def segmented(classes=5):
    logits, auxiliary = (4 * noise(2 * N, classes, SIZE, SIZE, seed=i) for i in (21, 22))
    return logits, auxiliary, torch.randint(classes, (2 * N, SIZE, SIZE), generator=torch.Generator().manual_seed(0))


def move(value, device):
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: move(item, device) for key, item in value.items()}
    return [move(item, device) for item in value]


def stages(device="cpu"):
    """Each objective as a function of the weights, with the names of its terms."""
    given, made, (logits, auxiliary, label) = move((batch(), result(), segmented()), device)
    fs_result = made | {"logits": logits, "auxiliary": auxiliary}
    return {
        "R": (lambda weights: r_objective(made, given, weights), RF[:5]),
        "RF": (lambda weights: rf_objective(made, given, weights), RF),
        "F": (lambda weights: f_objective(made, weights), FUSION),
        "FS": (lambda weights: fs_objective(fs_result, label, weights), (*FUSION, "semantic")),
        "SEG": (
            lambda weights: seg_objective({"logits": logits, "auxiliary": auxiliary}, label, weights),
            ("cross_entropy", "lovasz"),
        ),
    }


@pytest.mark.parametrize("stage", stages())
def test_terms_are_weighted_and_named_and_their_total_is_the_sum(stage):
    objective, names = stages()[stage]
    before = objective(loss_weights(**OURS))
    assert tuple(before) == (*names, "total") and all(before[name] > 0 for name in names)
    assert before["total"] == pytest.approx(sum(before[name].item() for name in names))
    for key, weight in loss_weights(**OURS).items():
        after = objective(loss_weights(**OURS | {key: 1.5 * weight}))
        changed = FUSION if key == "fusion" else (key,)
        for name in names:
            assert after[name] == pytest.approx(before[name].item() * (1.5 if name in changed else 1))


@pytest.mark.parametrize("stage", stages())
def test_a_weight_of_zero_leaves_its_term_out(stage):
    objective, names = stages()[stage]
    for name in names:
        terms = objective(loss_weights(**OURS | {name: 0.0}))
        assert tuple(terms) == (*(n for n in names if n != name), "total")
    if "gradient" in names and names != FUSION:
        assert tuple(objective(loss_weights(fusion=0.0))) == (*(n for n in names if n not in FUSION), "total")
    with pytest.raises(UserError, match=f"every weight of {names[0]}.* is 0"):
        objective(dict.fromkeys(loss_weights(), 0.0))


def test_a_weight_of_zero_needs_nothing(monkeypatch):
    matching = {"flows": result()["flows"]}
    off = dict(photometric=0.0, fusion=0.0, consistency=0.0)
    assert set(rf_objective(matching, batch(), loss_weights(**off))) == {*RF[1:5], "total"}
    off |= dict(epe_register=0.0, epe_deform=0.0, border=0.0)
    assert set(rf_objective(matching, {"ir": batch()["ir"]}, loss_weights(**off))) == {"smoothness", "total"}
    assert set(fs_objective(result(), None, loss_weights(semantic=0.0))) == {*FUSION[:3], "total"}
    logits, auxiliary, label = segmented()
    monkeypatch.setitem(SEGMENTER_TERMS, "lovasz", Term(1.0, None))
    assert set(seg_objective({"logits": logits, "auxiliary": auxiliary}, label, loss_weights(lovasz=0.0))) == {
        "cross_entropy",
        "total",
    }
    assert set(fs_objective({"logits": logits} | result(), label, loss_weights(semantic=0.0))) == {*FUSION[:3], "total"}


def test_a_term_of_your_own_is_one_registration(monkeypatch):
    def darkness(fused, ir, vi, mask):
        return ((1 - fused) * mask).mean()

    monkeypatch.setitem(FUSION_TERMS, "darkness", Term(0.25, darkness))
    made = result()
    expected = ((1 - made["fused"]) * made["fused_valid"]).mean().item()
    for terms in (rf_objective(made, batch(), loss_weights()), f_objective(made, loss_weights())):
        assert terms["darkness"] == pytest.approx(10 * 0.25 * expected)
        assert terms["total"] == pytest.approx(sum(v.item() for name, v in terms.items() if name != "total"))
    assert "darkness" not in f_objective(made, loss_weights(darkness=0.0))


def test_terms_on_the_target_get_that_of_the_sources():
    made = result()
    sources, valid = (made["fused_ir"], made["fused_vi"]), made["fused_valid"]
    selected, share = target(*sources, valid)
    terms = f_objective(made, loss_weights(**OURS))
    edges = fusion.edges(made["fused"], *sources, share, valid)
    assert terms["edges"] == pytest.approx(10 * OURS["edges"] * edges.item())
    for name, term in (("selection", fusion.selection), ("detail", fusion.detail)):
        assert terms[name] == pytest.approx(10 * OURS[name] * term(made["fused"], selected, valid).item())


def test_unknown_terms_are_refused():
    with pytest.raises(
        ValueError, match="unknown terms fussion; known are photometric, epe_register, .*fusion, .*lovasz"
    ):
        loss_weights(fussion=1.0)


def test_warped_images_are_compared_with_their_counterparts():
    given, made = batch(), result()
    only = loss_weights(**dict.fromkeys(RF[1:], 0.0) | {"photometric": 1.0})

    def value(ir, y):
        return rf_objective(made | {"warped_ir": ir, "warped_vi": y}, given, only)["photometric"].item()

    ir, y = (torch.cat((given[key][SECOND], given[key][FIRST])) for key in ("ir", "y"))
    assert value(ir, y) == 0
    for wrong in ((given["ir"], y), (ir, given["y"]), (y, ir)):
        assert value(*wrong) > 0.1
    # Each is masked by its own direction: where its partner is not visible, a warped image may show anything.
    ir, y = (
        torch.where(given[f"valid_{way}"] > 0, image, noise(*image.shape, seed=9)) for way, image in zip(WAYS, (ir, y))
    )
    assert value(ir, y) == 0


@pytest.mark.parametrize(
    "way, part, term",
    [
        ("ir2vi", FIRST, "epe_register"),
        ("ir2vi", SECOND, "epe_deform"),
        ("vi2ir", FIRST, "epe_deform"),
        ("vi2ir", SECOND, "epe_register"),
    ],
)
def test_which_fields_undo_the_deformation(way, part, term):
    given, made = batch(), result()
    true = {w: [given[f"flow_{w}"]] * 3 for w in WAYS}
    wrong = given[f"flow_{way}"].clone()
    wrong[part] += 3.0
    weights = loss_weights(epe_register=1.0, epe_deform=1.0)
    terms = rf_objective(made | {"flows": true | {way: [wrong] * 3}}, given, weights)
    other = {"epe_register": "epe_deform", "epe_deform": "epe_register"}[term]
    assert terms[other] == pytest.approx(0, abs=1e-6)
    distance = (2 * 3**2 + 0.01) ** 0.5 - 0.1
    assert terms[term] == pytest.approx(sum(flow.SCALE_WEIGHTS) * distance, rel=1e-4)


def test_flow_terms_count_both_directions():
    given, made = batch(), result()
    made["flows"]["vi2ir"] = [0.5 * f for f in made["flows"]["vi2ir"]]
    terms = rf_objective(made, given, loss_weights(smoothness=2.0, border=3.0))
    smoothness = [flow.smoothness(made["flows"][way]).item() for way in WAYS]
    border = [flow.border(made["flows"][way][-1], given[f"valid_{way}"]).item() for way in WAYS]
    assert terms["smoothness"] == pytest.approx(2 * sum(smoothness)) and min(smoothness) > 0
    assert terms["border"] == pytest.approx(3 * sum(border)) and min(border) > 0


def test_fused_images_agree_with_their_counterparts():
    made = result()
    only = loss_weights(**dict.fromkeys(RF[:-1], 0.0) | {"consistency": 2.0})
    fused, valid = made["fused"].chunk(2), made["fused_valid"].chunk(2)
    expected = 2 * fusion.consistency(*fused, valid[0] * valid[1]).item()
    assert rf_objective(made, batch(), only)["consistency"] == pytest.approx(expected)
    assert rf_objective(made | {"fused": fused[0].repeat(2, 1, 1, 1)}, batch(), only)["consistency"] == 0
    # A difference where either of the two is not valid does not count.
    gone = torch.where(valid[0] * valid[1] > 0, fused[0], 1 - fused[0])
    assert rf_objective(made | {"fused": torch.cat((fused[0], gone))}, batch(), only)["consistency"] == 0


def test_fusion_terms_take_their_own_sources():
    made = result()
    terms = rf_objective(made, batch(), loss_weights(fusion=2.0))
    for name, weight in zip(FUSION, (0.6, 0.3, 0.1)):
        sources = (made[key] for key in ("fused", "fused_ir", "fused_vi", "fused_valid"))
        assert terms[name] == pytest.approx(2 * weight * getattr(fusion, name)(*sources).item())


def test_auxiliary_outputs_count_a_quarter():
    logits, auxiliary, label = segmented()
    lovasz, ohem = (
        term(logits, label).item() + 0.25 * term(auxiliary, label).item()
        for term in (segmentation.lovasz_softmax, segmentation.ohem_cross_entropy)
    )
    semantic = fs_objective(result() | {"logits": logits, "auxiliary": auxiliary}, label, loss_weights())["semantic"]
    assert semantic == pytest.approx(lovasz)
    terms = seg_objective({"logits": logits, "auxiliary": auxiliary}, label, loss_weights())
    assert terms["lovasz"] == pytest.approx(lovasz) and terms["cross_entropy"] == pytest.approx(ohem)


def matched(given, flows):
    """The result of matching a batch of crops by ``flows``."""
    scales = {way: [resize_flow(f, (12, 12)), resize_flow(f, (24, 24)), f] for way, f in flows.items()}
    warped = {"warped_ir": warp(given["ir"], flows["ir2vi"]), "warped_vi": warp(given["y"], flows["vi2ir"])}
    return {"flows": scales} | warped


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_the_true_flows_of_real_crops_are_the_optimum(device, monkeypatch):
    monkeypatch.setattr("datasets.toy._SCENES", 1)
    given, _ = CropSampler(Data(sets={"toy": 1.0}, crop=96, elastic=0.5), 0, device).deformed(3)
    weights = loss_weights(fusion=0.0, consistency=0.0)
    true = {way: given[f"flow_{way}"] for way in WAYS}
    best = rf_objective(matched(given, true), given, weights)
    none = rf_objective(matched(given, {way: 0 * f for way, f in true.items()}), given, weights)
    swapped = rf_objective(matched(given, dict(zip(WAYS, reversed(true.values())))), given, weights)
    assert best["border"] < 1e-3 and best["epe_register"] < 0.1 and best["epe_deform"] < 0.1
    for other in (none, swapped):
        assert other["epe_register"] > 5 and other["epe_deform"] > 5
        assert best["photometric"] < 0.5 * other["photometric"]


@pytest.mark.gpu
@pytest.mark.parametrize("stage", stages())
def test_a_gpu_gives_the_same_terms(stage):
    (on_cpu, _), (on_gpu, _) = stages()[stage], stages("cuda")[stage]
    expected = on_cpu(loss_weights())
    for name, value in on_gpu(loss_weights()).items():
        assert value.device.type == "cuda" and value.item() == pytest.approx(expected[name].item(), rel=1e-3)
