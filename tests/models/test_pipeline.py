"""The pipeline: all interfaces compute the same fused image of a pair."""

import cv2
import numpy as np
import pytest
import torch

import export
import test as test_script
from models import Pipeline, SuperFusion, load_model
from models.blending import content, fade
from models.registration import REGISTRARS, Transform
from models.registration.registry import registered
from models.weights import save_checkpoint
from utils.errors import UserError
from utils.files.images import read_image


def moving_model(shift: float = 3.0) -> SuperFusion:
    """Random networks whose matcher answers every pair with a shift of several pixels."""
    torch.manual_seed(0)
    model = SuperFusion(passes=(1.0,)).eval()
    with torch.no_grad():
        model.matcher.refine.estimate[-1][0].weight.zero_()
        model.matcher.refine.estimate[-1][0].bias = torch.nn.Parameter(torch.tensor([shift, 0.0]))
    return model


@pytest.fixture
def files(tmp_path):
    """An IR file with a black band and a VI file, 64x96."""
    vi = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    vi = torch.nn.functional.interpolate(vi, (64, 96), mode="bicubic").clamp(0.05, 1)
    ir = (1.05 - vi.mean(1, keepdim=True)).clamp(0.05, 1)
    ir[..., 50:, :] = 0
    paths = tmp_path / "t.png", tmp_path / "v.png"
    for path, image in zip(paths, (ir, vi)):
        cv2.imwrite(str(path), (image[0].permute(1, 2, 0) * 255).round().byte().numpy()[:, :, ::-1])
    return paths


@pytest.mark.parametrize("registrar", ["matcher", "auto"])
def test_every_way_gives_one_fused_image(tmp_path, files, registrar):
    torch.manual_seed(0)
    model = SuperFusion(passes=(1.0,)).eval()
    with torch.no_grad():
        model.matcher.refine.estimate[-1][0].weight.mul_(100)
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, model)
    ir, vi = (read_image(file)[None] for file in files)

    result = Pipeline.load(path, registrar=registrar, device="cpu")(ir, vi)
    assert result.flow_ir2vi.abs().mean() > 0.1
    from_files = Pipeline.load(path, registrar=registrar, device="cpu")(*files)
    assert torch.equal(from_files.fused, result.fused)

    arguments = ["--checkpoint", path, "--registrar", registrar, "--ir", files[0], "--vi", files[1]]
    test_script.main([str(a) for a in [*arguments, "--out", tmp_path / "out", "--device", "cpu"]])
    saved = read_image(tmp_path / "out" / "fused" / "v.png")
    assert (saved - result.fused[0]).abs().max() <= 0.5 / 255 + 1e-6

    if registrar == "matcher":
        with torch.inference_mode():
            plain = load_model(path)(ir, vi)
            exported = dict(zip(export.OUTPUTS["both"], export.Part(model, "both")(ir, vi)))
        for name in export.OUTPUTS["both"]:
            expected = getattr(result, name)
            assert torch.allclose(getattr(plain, name), expected, rtol=0, atol=1e-3), name
            assert torch.allclose(exported[name], expected, rtol=0, atol=1e-3), name


def test_where_the_registered_image_ends_the_visible_one_stays(files):
    model = moving_model()
    ir, vi = (read_image(file)[None] for file in files)
    result = Pipeline(model, "matcher")(ir, vi)
    outside = (result.valid == 0).expand(1, 3, -1, -1)
    assert 0.01 < outside.float().mean() < 0.9
    assert torch.equal(result.fused[outside], vi[outside])
    assert torch.equal(result.fused[..., 54:, :], vi[..., 54:, :])  # the band that IR brought along
    with torch.no_grad():
        fused = model.fuse(result.registered, vi)
    assert torch.allclose(result.fused, fade(fused, vi, content(ir, result)), atol=1e-6)


def test_a_smaller_infrared_image_is_brought_to_the_visible_frame(files):
    ir, vi = read_image(files[0])[None, :, ::2, ::2], read_image(files[1])[None]
    result = Pipeline(None, "none").register(torch.nn.functional.interpolate(ir, (64, 96)), vi)
    assert result.registered.shape == (1, 1, 64, 96)
    assert Pipeline(moving_model(), "matcher")(ir, vi).fused.shape == (1, 3, 64, 96)


def test_the_network_is_called_only_by_registrars_that_use_it(files):
    ir, vi = (read_image(file)[None] for file in files)
    for name, entry in REGISTRARS.items():
        if entry.uses_network:
            with pytest.raises(ValueError, match=f"{name} needs a network"):
                Pipeline(None, name)
        else:
            assert Pipeline(None, name).register(ir, vi).flow_ir2vi.shape == (1, 2, 64, 96)


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match="registrar is 'magic'; use one of auto, matcher, structural, none"):
        Pipeline(None, "magic")
    with pytest.raises(UserError, match="none.png: no such file"):
        Pipeline(SuperFusion(), "matcher")(tmp_path / "none.png", tmp_path / "none.png")
    with pytest.raises(UserError, match="nowhere.pth: no such checkpoint"):
        Pipeline.load(tmp_path / "nowhere.pth")


def test_pixels_without_a_value_are_missing_and_never_spread(files, tmp_path):
    celsius = read_image(files[0])[0].numpy() * 35 - 5
    celsius[20:28, 40:52] = np.nan
    np.save(tmp_path / "celsius.npy", celsius)
    with pytest.warns(UserWarning, match="celsius.npy: IR has missing pixels"):
        result = Pipeline(moving_model(0.5), "matcher")(tmp_path / "celsius.npy", files[1])
    assert result.fused.isfinite().all() and result.registered.isfinite().all()
    # Shifted by half a pixel, each value mixes two; those that would mix a missing one are missing.
    hole = result.valid[0, 0, 18:30, 30:60] == 0
    assert hole[2:10].all(dim=0).nonzero().squeeze().tolist() == list(range(9, 22)) and not hole[0].any()
    assert (result.registered[0, 0, 18:30, 30:60][hole] == 0).all()
    assert torch.equal(result.fused[..., 20:28, 40:52], read_image(files[1])[None][..., 20:28, 40:52])


def test_a_pair_is_fused_on_irs_frame():
    """VI shows the left half of IR's frame: there the result is fused, on the right it is IR."""
    torch.manual_seed(0)
    pipeline = Pipeline(SuperFusion(), "none")
    ir, vi = torch.rand(1, 1, 64, 96), torch.rand(1, 3, 64, 64)
    matrix = torch.tensor([[0.75, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)
    transform = Transform(matrix, (64, 64), (96, 64))
    reverse = pipeline.reverse(vi, registered(ir, [transform]))
    assert reverse.registered.shape == (1, 3, 64, 96)
    assert torch.equal(reverse.valid[0, 0].bool(), (torch.arange(96) <= 63 * 0.75).expand(64, -1))
    assert (
        reverse.registered[..., 3::3][..., :15] - vi[..., 4::4]
    ).abs().max() < 1e-4  # every 3rd pixel of IR is a 4th
    fused = pipeline.fuse_on_ir(ir, vi, reverse)
    assert torch.equal(fused[..., 48:], ir[..., 48:].expand(-1, 3, -1, -1))
    assert torch.equal(fused, fade(pipeline.fuse(ir, reverse.registered), ir, content(vi, reverse)))


def test_the_strength_of_ir_mixes_the_fused_with_the_visible_image(files):
    ir, vi = (read_image(file)[None] for file in files)
    whole = Pipeline(moving_model(), "matcher")(ir, vi).fused
    assert torch.equal(Pipeline(moving_model(), "matcher", ir_strength=0.0)(ir, vi).fused, vi)
    quarter = Pipeline(moving_model(), "matcher", ir_strength=0.25)
    assert (whole - vi).abs().max() > 0.05
    whole = Pipeline(moving_model()).fuse(ir, vi)
    assert torch.allclose(quarter.fuse(ir, vi), vi + 0.25 * (whole - vi), atol=1e-6)
    with pytest.raises(ValueError, match="ir_strength is 1.5"):
        Pipeline(moving_model(), "matcher", ir_strength=1.5)


@pytest.fixture(scope="module")
def pipeline():
    return Pipeline(moving_model(), registrar="matcher")


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda x: x * 255, "has values from .* to .*; images lie in .0, 1.: divide 8-bit values by 255"),
        (lambda x: x - 0.5, "has values from -0.*; images lie in .0, 1."),
        (lambda x: torch.where(x > 0.9, torch.nan, x), "holds NaN; images lie in .0, 1."),
        (lambda x: torch.where(x > 0.9, torch.inf, x), "has values from .* to inf"),
        (lambda x: (x * 255).byte(), "holds torch.uint8, not floats in .0, 1.; divide 8-bit values by 255"),
        (lambda x: x.numpy(), r"is a numpy.ndarray, not a tensor; .*torch.from_numpy\(array\)"),
        (lambda x: x[0], r"has shape \(\d, 64, 96\), not \(B, 1 or 3, H, W\)"),
        (lambda x: None, "is a builtins.NoneType, not a tensor"),
    ],
)
def test_what_is_no_image_is_refused(pipeline, spoil, message):
    ir, vi = torch.rand(1, 1, 64, 96), torch.rand(1, 3, 64, 96)
    for name, pair in (("ir", (spoil(ir), vi)), ("vi", (ir, spoil(vi)))):
        for call in (pipeline, pipeline.register, pipeline.fuse):
            with pytest.raises(ValueError, match=f"^{name} {message}"):
                call(*pair)


def test_other_floats_are_converted(pipeline):
    ir, vi = torch.rand(1, 1, 64, 96), torch.rand(1, 3, 64, 96)
    expected = pipeline(ir, vi).fused
    assert torch.equal(pipeline(ir.double(), vi.double()).fused, expected)
    assert (pipeline(ir.half(), vi.half()).fused - expected).abs().max() < 0.02
    assert torch.equal(pipeline(ir + 5e-4 * (ir > 0.999), vi).registered.isfinite(), torch.ones(1, 1, 64, 96) > 0)


def test_the_networks_alone_name_a_wrong_type():
    ir, vi, model = torch.rand(1, 1, 64, 96), torch.rand(1, 3, 64, 96), moving_model()
    for call in (model, model.register, model.fuse):
        with pytest.raises(ValueError, match=r"ir holds torch.float64; the networks take float32: ir.float\(\)"):
            call(ir.double(), vi)
        with pytest.raises(ValueError, match="vi holds torch.uint8"):
            call(ir, (vi * 255).byte())
        with pytest.raises(ValueError, match="ir is a numpy.ndarray"):
            call(ir.numpy(), vi)
