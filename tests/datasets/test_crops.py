"""Training crops: flows are true, black bands occur only where allowed, labels follow, draws are reproducible."""

import pytest
import torch

from datasets.crops import CropSampler
from datasets.paired import Pair, PairSet
from datasets.toy import toy_scene
from datasets.training_sets import READERS, Data, held_out, open_ir_set, open_set
from models.warping import pixel_grid, warp
from utils.colour import luminance
from utils.errors import UserError
from utils.files.images import write_image

WAYS = ("ir2vi", "vi2ir")
STILL = dict(rotation=0.0, translation=0.0, shear=0.0, elastic=0.0)


def smooth(height, width, period):
    """A bright image without edges, (H, W)."""
    x, y = pixel_grid(height, width, like=torch.zeros(1))[0]
    return 0.5 + 0.2 * torch.sin(x / period) + 0.2 * torch.cos(y / 9 + x / 40)


def write_pair(folder, name, ir, vi, label=None):
    write_image(folder / "ir" / f"{name}.png", ir[None])
    write_image(folder / "vi" / f"{name}.png", vi if vi.ndim == 3 else vi.expand(3, -1, -1))
    if label is not None:
        write_image(folder / "label" / f"{name}.png", label[None] / 255)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Sets of small images: LARGE and SMALL, whose IR and VI are one image, so that a true flow must bring them
    together; RAMP, whose colours tell the position; and CLASSES, painted by their labels, of which 255 replaces 3.
    """
    folder = tmp_path_factory.mktemp("data")
    for name, period in (("a", 11), ("b", 17)):
        image = smooth(120, 160, period)
        write_pair(folder / "LARGE" / "train", name, image, image)
    image = smooth(71, 93, 8)
    write_pair(folder / "SMALL" / "train", "c", image, image)

    x, y = pixel_grid(80, 100, like=torch.zeros(1))[0]
    write_pair(folder / "RAMP" / "train", "d", x / 255, torch.stack((2 * x, 2 * y, x + y)) / 255, 0 * x)
    for name, steps, size in (("e", x, (80, 100)), ("f", y, (80, 100)), ("g", y, (60, 50))):
        classes = (steps / 13).floor()[: size[0], : size[1]]
        label = torch.where(classes == 3, 255, classes)
        write_pair(folder / "CLASSES" / "train", name, 1 - classes / 10, classes / 10, label)
    return folder


def sampler(root, *sets, seed=0, labels=False, device="cpu", **options):
    options = dict(crop=40, rotation=6.0, translation=0.04, shear=0.02, elastic=0.5) | options
    shares = dict.fromkeys((f"{name}/train" for name in sets or ("LARGE",)), 1.0)
    return Sampler(Data(root=str(root), **dict(sets=shares) | options), seed, device, labels)


class Sampler(CropSampler):
    """A sampler that returns names in place of indices."""

    def deformed(self, size, counterparts=True):
        batch, picked = super().deformed(size, counterparts)
        return batch, [self.names[i] for i in picked]

    def aligned(self, size):
        batch, picked = super().aligned(size)
        return batch, [self.names[i] for i in picked]


def check_flows(batch):
    """Warped by its true flows, each image is the other modality's, and its own in the counterpart."""
    count = len(batch["ir"]) // 2
    for way, moving, fixed in zip(WAYS, ("ir", "y"), ("y", "ir")):
        valid, warped = batch[f"valid_{way}"], warp(batch[moving], batch[f"flow_{way}"])
        for half in (slice(0, count), slice(count, None)):
            for target in (batch[fixed], batch[moving].roll(count, 0)):
                error = ((warped - target).abs() * valid)[half]
                before = ((batch[moving] - target).abs() * valid)[half].mean()
                assert valid[half].mean() > 0.5
                assert error.mean() < 0.004 < 0.2 * before and error.max() < 0.05


@pytest.mark.parametrize("turns", [False, True])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_the_true_flows_bring_pairs_and_counterparts_together(root, scale, turns):
    batch, _ = sampler(root, scale=scale, quarter_turns=turns).deformed(8)
    check_flows(batch)


def test_shapes_and_ranges(root):
    batch, names = sampler(root).deformed(3)
    assert len(names) == 3 and set(names) <= {"a", "b"}
    assert {key: tuple(value.shape[:2]) for key, value in batch.items()} == {
        **dict(ir=(6, 1), y=(6, 1), target_ir=(6, 1), target_y=(6, 1), match_ir=(6, 1), match_vi=(6, 3)),
        **dict(flow_ir2vi=(6, 2), flow_vi2ir=(6, 2), valid_ir2vi=(6, 1), valid_vi2ir=(6, 1)),
    }
    for key, value in batch.items():
        assert value.shape[2:] == (40, 40) and value.dtype == torch.float32 and value.isfinite().all()
        assert key.startswith("flow") or (value.min() >= 0 and value.max() <= 1)
        assert not key.startswith("valid") or set(value.unique().tolist()) <= {0, 1}


def test_flows_are_measured_in_crop_pixels(root):
    # At half the size a crop pixel covers two image pixels: the same crops of half as many pixels, half the flow.
    fine, _ = sampler(root, crop=40, zoom=(1.0, 1.0), band=1.0).deformed(4)
    coarse, _ = sampler(root, crop=20, zoom=(1.0, 1.0), band=1.0, scale=0.5).deformed(4)
    lengths = [batch["flow_ir2vi"].norm(dim=1).mean().item() for batch in (fine, coarse)]
    assert lengths[1] == pytest.approx(lengths[0] / 2, rel=0.1) and lengths[0] > 2


def test_without_counterparts_ir_is_warped_in_one_half_and_vi_in_the_other(root):
    batch, names = sampler(root, "SMALL", band=1.0, zoom=(3.0, 3.0)).deformed(9, counterparts=False)
    assert len(names) == len(batch["ir"]) == 9
    # The images hold no black but the band of what is warped: IR in the first four, VI in the others.
    for key, other, part in (("ir", "y", slice(0, 4)), ("y", "ir", slice(4, 9))):
        assert (batch[key][part] == 0).any() and batch[other][part].min() > 0
    # IR and VI are one image here, so each true flow must bring them together, and onto the target.
    for way, moving, fixed in zip(WAYS, ("ir", "y"), ("y", "ir")):
        valid, warped = batch[f"valid_{way}"], warp(batch[moving], batch[f"flow_{way}"])
        for target in (batch[fixed], batch[f"target_{moving}"]):
            assert ((warped - target).abs() * valid).max() < 0.05


def test_large_zooms_are_sampled_from_the_half_without_aliasing(tmp_path):
    # Columns of alternating black and white, which half the resolution can only show as gray.
    stripes = (torch.arange(160) % 2).float().expand(120, -1)
    write_pair(tmp_path / "S" / "train", "s", stripes, stripes)
    fine, _ = sampler(tmp_path, "S", zoom=(1.0, 1.0)).aligned(4)
    coarse, _ = sampler(tmp_path, "S", zoom=(1.9, 2.1)).aligned(4)
    assert fine["ir"].std() > 0.4 and coarse["ir"].std() < 0.1 and coarse["ir"].mean() == pytest.approx(0.5, abs=0.02)


def test_images_without_partner_are_matched_with_a_made_up_modality(root):
    alone = dict(ir_sets={"SMALL/train": 1.0}, sets={"LARGE/train": 1e-6})
    batch, names = sampler(root, **alone).deformed(16, counterparts=False)
    assert set(names) == {"c"}
    made = (
        (batch["match_ir"] - batch["ir"]).abs().mean((1, 2, 3)),
        (batch["match_vi"] - batch["y"]).abs().mean((1, 2, 3)),
    )
    assert 2 < (made[0] > made[1]).sum() < 14  # either may be the one that is made up
    # Pairs are, too, in the share that the config names.
    batch, _ = sampler(root, other_modality=1.0).deformed(16, counterparts=False)
    both = torch.stack((batch["match_ir"].flatten(1), batch["match_vi"].mean(dim=1).flatten(1)))
    assert torch.stack([torch.corrcoef(pair)[0, 1] for pair in both.unbind(1)]).abs().mean() < 0.9
    # Stages that need partners draw from the paired sets only.
    assert set(sampler(root, ir_sets={"SMALL/train": 1e6}).aligned(16)[1]) <= {"a", "b"}


def test_pixels_without_a_visible_partner_are_not_valid(root):
    batch, _ = sampler(root, band=1.0, translation=0.3, rotation=0.0, elastic=0.0).deformed(6)
    for way in WAYS:
        position = pixel_grid(40, 40, like=batch["ir"]) + batch[f"flow_{way}"]
        outside = ((position < -0.01) | (position > 39.01)).any(dim=1, keepdim=True)
        valid = batch[f"valid_{way}"]
        assert outside.any() and not valid[outside].any() and valid[~outside].float().mean() > 0.7


def test_the_band_of_the_deformed_image_stays_black_and_is_not_valid(root):
    # Windows as large as the images, so that partners come to lie between a band and the content.
    batch, _ = sampler(root, "SMALL", band=1.0, zoom=(3.0, 3.0)).deformed(12)
    # The images hold no black: it shows in the deformed IR image of the first half, in VI's of the second.
    ir, y = ((batch[key] == 0).chunk(2) for key in ("ir", "y"))
    band = ir[0]
    assert 0.01 < band.float().mean() < 0.6
    assert torch.equal(y[1], band) and not ir[1].any() and not y[0].any()
    for part, way in ((0, "vi2ir"), (1, "ir2vi")):  # towards the deformed image
        assert not batch[f"valid_{way}"].chunk(2)[part][band].any()
        between = warp(band.float(), batch[f"flow_{WAYS[part]}"].chunk(2)[part]) > 0.01
        assert between.any() and not batch[f"valid_{WAYS[part]}"].chunk(2)[part][between].any()
    # Augmentation leaves it black, too.
    match_ir, match_vi = batch["match_ir"].chunk(2)[0], batch["match_vi"].chunk(2)[1]
    assert not match_ir[band].any() and not match_vi[band.expand_as(match_vi)].any()


def test_no_band_where_none_is_allowed(root):
    free, _ = sampler(root, band=0.0, zoom=(0.6, 1.0)).deformed(32)
    assert free["ir"].min() > 0 and free["y"].min() > 0
    # Neither in images that are hardly larger than a window.
    free, _ = sampler(root, "SMALL", band=0.0, zoom=(1.5, 2.0), rotation=3.0, translation=0.02).deformed(16)
    assert (free["ir"] == 0).float().mean() < 0.002


def test_the_matcher_sees_the_same_geometry_in_other_light(root):
    batch, _ = sampler(root).deformed(8)
    for key, given in (("match_ir", batch["ir"]), ("match_vi", batch["y"])):
        for seen, image in zip(batch[key].mean(dim=1), given[:, 0]):
            both = torch.stack((seen.flatten(), image.flatten()))
            assert torch.corrcoef(both)[0, 1].abs() > 0.9 and (seen - image).abs().mean() > 0.002


def test_a_share_of_samples_is_nearly_registered(root):
    still = dict(elastic=0.0, band=1.0, zoom=(1.0, 1.0))
    batches = [sampler(root, residual=share, **still).deformed(6)[0] for share in (0.0, 1.0)]
    whole, rest = (batch["flow_ir2vi"].norm(dim=1).mean().item() for batch in batches)
    assert rest == pytest.approx(0.15 * whole, rel=0.1)
    some = sampler(root, residual=0.5, **still).deformed(20)[0]["flow_ir2vi"][:20].norm(dim=1).mean((1, 2))
    assert 0.2 < (some < 1).float().mean() < 0.8


@pytest.mark.parametrize("turns, ways", [(False, 2), (True, 8)])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_windows_are_mirrored_turned_and_zoomed(root, turns, ways, scale):
    draw = sampler(root, "RAMP", labels=True, crop=24, zoom=(0.6, 1.1), quarter_turns=turns, scale=scale)
    batch, _ = draw.aligned(64)
    # The red and the green channel are 2 x and 2 y: their slopes are the window's linear map.
    colours = 255 / 2 * batch["vi"][:, :2]
    linear = torch.stack((colours.diff(dim=3).mean((2, 3)), colours.diff(dim=2).mean((2, 3))), dim=2)
    zoom = linear.norm(dim=(1, 2)) / 2**0.5
    assert 0.57 / scale < zoom.min() < 0.65 / scale and 1.05 / scale < zoom.max() < 1.13 / scale
    turn = linear / zoom.view(-1, 1, 1)
    assert (turn - turn.round()).abs().max() < 0.05 and len(turn.round().unique(dim=0)) == ways
    # Windows lie all over the image and stay inside.
    position = colours.flatten(2)
    last = torch.tensor([99.0, 79.0])
    assert (position.amin(dim=(0, 2)) < 8).all() and (position.amax(dim=(0, 2)) > last - 8).all()


def test_windows_shrink_to_fit_small_images(root):
    draw = sampler(root, "RAMP", labels=True, crop=24, zoom=(8.0, 9.0))
    colours = 255 / 2 * draw.aligned(16)[0]["vi"][:, :2]
    reach = colours.flatten(2).amax(dim=2) - colours.flatten(2).amin(dim=2)
    assert (reach - 79 * 23 / 24).abs().max() < 1.5  # the shorter side, less half a crop pixel at both ends


def test_aligned_crops_hold_pixels_of_the_images(root):
    batch, _ = sampler(root, "RAMP", labels=True, crop=24, zoom=(1.0, 1.0), quarter_turns=True).aligned(16)
    pixels = 255 * torch.cat((batch["ir"], batch["vi"]), dim=1)
    assert (pixels - pixels.round()).abs().max() < 1e-3


def test_a_share_of_the_aligned_crops_is_out_of_line_as_after_a_registration(root):
    # IR of RAMP is x / 255, so that its change is the displacement along x.
    draw = sampler(root, "RAMP", crop=24, zoom=(1.0, 1.0), registered=0.5)
    batch, _ = draw.aligned(64)
    displacement = 255 * (batch["ir"] - batch["target_ir"]).flatten(1)
    moved = displacement.abs().amax(dim=1) > 0
    assert 20 <= moved.sum() <= 44
    assert 0.3 < displacement[moved].abs().mean() < 1.5 and displacement.abs().max() < 4
    assert (255 * batch["target_ir"] - (255 * batch["target_ir"]).round()).abs().max() < 1e-3
    aligned, _ = sampler(root, "RAMP", crop=24, zoom=(1.0, 1.0)).aligned(8)
    assert torch.equal(aligned["ir"], aligned["target_ir"])


@pytest.mark.parametrize("scale", [1.0, 0.7])
def test_sizes_may_differ_in_a_batch(root, scale):
    mixed = dict(seed=3, scale=scale, crop=30, zoom=(1.2, 2.5))
    batch, names = sampler(root, "LARGE", "SMALL", band=0.0, **STILL | mixed).deformed(24)
    assert {"a", "b", "c"} == set(names)
    # Nothing of what pads the smaller images, up to their very edges.
    assert batch["ir"].min() > 0.08 and batch["y"].min() > 0.08
    batch, names = sampler(root, "LARGE", "SMALL", **mixed | dict(zoom=(0.9, 1.2))).deformed(8)
    assert {"a", "b", "c"} == set(names)
    check_flows(batch)


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.7])
def test_labels_move_with_the_images(root, scale):
    draw = sampler(root, "CLASSES", labels=True, crop=30, zoom=(0.5, 1.2), quarter_turns=True, scale=scale)
    batch, names = draw.aligned(40)
    assert {"e", "f", "g"} == set(names)
    assert batch["ir"].shape == (40, 1, 30, 30) and batch["vi"].shape == (40, 3, 30, 30)
    assert batch["label"].shape == (40, 30, 30) and batch["label"].dtype == torch.int64
    # Classes do not mix, and 255 stays what it is.
    assert set(batch["label"].unique().tolist()) == {0, 1, 2, 4, 5, 6, 7, 255}
    painted = torch.where(batch["label"] == 255, 3, batch["label"])
    # A pixel between two classes has a share of both, and the label of the larger; reduction blurs its image more.
    tolerance = 0.55 if scale == 1 else 0.8
    for image in (10 * batch["vi"].mean(dim=1), 10 * (1 - batch["ir"][:, 0])):
        assert (image - painted).abs().max() < tolerance and (image - painted).abs().mean() < 0.15


def same(one, other):
    (a, names), (b, others) = one, other
    return names == others and all(torch.equal(a[key], b[key]) for key in a)


def test_the_seed_decides(root):
    torch.manual_seed(0)
    state = torch.get_rng_state()
    a, b, c = (sampler(root, seed=seed).deformed(2) for seed in (1, 1, 2))
    assert same(a, b) and not torch.equal(a[0]["flow_ir2vi"], c[0]["flow_ir2vi"])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("draw", ["deformed", "aligned"])
def test_a_restored_state_continues_exactly(root, draw):
    one, other = (sampler(root, "CLASSES", seed=seed, labels=True) for seed in (1, 2))
    getattr(one, draw)(3)
    state = one.state()
    expected = getattr(one, draw)(3)
    other.restore(state)
    assert same(getattr(other, draw)(3), expected)
    assert not same(getattr(other, draw)(3), expected)


def test_a_state_of_another_device_is_left_out(root):
    one, other = sampler(root, seed=1), sampler(root, seed=1)
    other.restore({"generator": torch.zeros(16, dtype=torch.uint8)})
    assert same(one.deformed(2), other.deformed(2))


def test_what_is_held_out_is_the_last_by_name_and_is_not_drawn(root):
    config = dict(hold_out=0.34, labels=True)
    assert held_out(Data(hold_out=0.34), 3) == 1 and held_out(Data(), 3) == 0
    assert held_out(Data(hold_out=0.1), 4) == 1  # not none, where some are asked for
    _, names = sampler(root, "CLASSES", **config).aligned(32)
    assert set(names) == {"e", "f"}
    assert open_set(Data(root=str(root)), "CLASSES/train", labels=False).names == ["e", "f", "g"]


def test_black_hot_images_are_inverted_on_demand(tmp_path):
    scenes = [toy_scene(seed, 120, 160) for seed in range(2)]
    for i, scene in enumerate(scenes):
        write_pair(tmp_path / "S" / "train", f"{i}", 1 - scene.ir[0], scene.vi)
    for polarity, inverted in (("white_hot", False), ("black_hot", True), ("auto", True)):
        config = Data(root=str(tmp_path), polarity=polarity)
        for pairs in (open_set(config, "S/train", labels=False), open_ir_set(config, "S/train")):
            for i, scene in enumerate(scenes):
                assert torch.allclose(pairs[i].ir, scene.ir if inverted else 1 - scene.ir, atol=0.01)
    for i, scene in enumerate(scenes):
        write_pair(tmp_path / "WHITE" / "train", f"{i}", scene.ir[0], scene.vi)
    white = open_set(Data(root=str(tmp_path), polarity="auto"), "WHITE/train", labels=False)
    assert torch.allclose(white[0].ir, scenes[0].ir, atol=0.01)
    told = sampler(tmp_path, "S", polarity="auto").lines[0]
    assert told.startswith("note: 0: IR is taken as black hot") and told.endswith("data.polarity=white_hot")


def test_what_is_noteworthy_of_the_images_is_told(root, tmp_path):
    assert not any("magnified" in line for line in sampler(root, "LARGE", crop=120).lines)
    line = sampler(root, "LARGE", "SMALL", crop=100).lines[-1]
    assert line.startswith("note: 1 of 3 images have a side below data.crop=100 (at data.scale 71 pixels) and are mag")
    for name in ("a", "b"):
        image = torch.rand(3, 60, 60, generator=torch.Generator().manual_seed(0))
        write_pair(tmp_path / "S" / "train", name, image[0], image)
        write_image(tmp_path / "S" / "train" / "ir" / f"{name}.png", image)
    one, more = sampler(tmp_path, "S").lines
    assert one == "note: a: IR and VI are the same picture" and more.startswith("note: 1 more: ")
    # Of IR without a partner there is nothing of the kind to tell.
    assert sampler(root, "LARGE", ir_sets={"SMALL/train": 1.0}).lines == sampler(root, "LARGE").lines
    for name in ("a", "b"):
        (tmp_path / "S" / "train" / "ir" / f"{name}.png").rename(tmp_path / "S" / "train" / "ir" / f"ir_{name}.png")
    assert sampler(tmp_path, "S").lines[0] == "note: names pair up once the prefix 'ir_' of IR is taken off"


def test_a_colour_picture_as_ir_becomes_its_luminance(tmp_path):
    # As in fusion and matching, a mean of the channels would be another image.
    colours = torch.rand(3, 60, 60) * torch.tensor([0.9, 0.5, 0.1]).view(3, 1, 1)
    write_pair(tmp_path / "S" / "train", "a", colours[0], torch.rand(3, 60, 60))
    write_image(tmp_path / "S" / "train" / "ir" / "a.png", colours)
    batch, _ = sampler(tmp_path, "S", zoom=(1.0, 1.0)).aligned(1)
    stored = luminance((colours[None] * 255).round() / 255)
    crops = stored.unfold(2, 40, 1).unfold(3, 40, 1).reshape(-1, 40, 40)
    drawn = torch.cat((batch["ir"][0], batch["ir"][0].flip(2)))
    assert (crops[:, None] - drawn).abs().amax((2, 3)).min() < 0.005


def test_sets_are_drawn_by_their_shares(root):
    shares = {"LARGE/train": 3.0, "SMALL/train": 1.0, "RAMP/train": 0.0}
    _, names = sampler(root, sets=shares, crop=8).deformed(400)
    assert names.count("c") == pytest.approx(100, abs=30) and names.count("d") == 0
    assert names.count("a") == pytest.approx(150, abs=35)


def test_the_config_may_change_between_draws(root):
    draw = sampler(root, crop=40)
    draw.config = Data(root=str(root), sets=draw.config.sets, crop=24, **STILL)
    batch, _ = draw.deformed(2)
    assert batch["ir"].shape[-1] == 24 and batch["flow_ir2vi"].abs().max() < 1e-4


def test_sampler_mistakes_are_named(root, tmp_path):
    with pytest.raises(UserError, match="NONE/train/ir: no such file or folder"):
        sampler(root, "NONE")
    with pytest.raises(UserError, match="LARGE/train/label: no such folder; .* class map"):
        sampler(root, "LARGE", labels=True)
    with pytest.raises(UserError, match="LARGE/train: data.hold_out leaves none of its 2 pairs to train on"):
        sampler(root, hold_out=0.9)
    with pytest.raises(UserError, match="a: 120x160 pixels are too few for crops at scale 0.01"):
        sampler(root, scale=0.01)


class Stripes(PairSet):
    """Pairs that are drawn, not read, whose labels follow the visible image."""

    has_flow, has_label = False, True

    def __init__(self, folder, labels):
        self.names = [f"{folder.name}{i}" for i in range(2)]

    def __getitem__(self, index):
        image = smooth(50, 60, 5 + index)[None]
        return Pair(self.names[index], image, image.expand(3, -1, -1), label=(image[0] > 0.5).long())


def test_a_data_set_of_your_own_is_one_registration(monkeypatch):
    monkeypatch.setitem(READERS, "STRIPES", Stripes)
    draw = Sampler(Data(sets={"STRIPES/train": 1.0}, crop=32, zoom=(1.0, 1.0)), 0, labels=True)
    batch, names = draw.aligned(8)
    assert set(names) == {"train0", "train1"}
    assert torch.equal(batch["label"], (batch["vi"][:, 0] > 0.5).long()) and len(batch["label"].unique()) == 2
    check_flows(CropSampler(Data(sets={"STRIPES/train": 1.0}, crop=32), 0).deformed(4)[0])


def test_the_toy_set_serves_all_stages(monkeypatch):
    monkeypatch.setattr("datasets.toy._SCENES", 1)
    draw = Sampler(Data(sets={"toy": 1.0}, crop=64), 0, labels=True)
    batch, names = draw.aligned(16)
    assert names == ["toy_0"] * 16 and batch["label"].max() < 9 and len(batch["label"].unique()) > 1
    batch, _ = draw.deformed(4)
    assert batch["match_vi"].shape == (8, 3, 64, 64) and batch["valid_ir2vi"].mean() > 0.2


@pytest.mark.gpu
@pytest.mark.parametrize("draw", ["deformed", "aligned"])
def test_a_gpu_draws_true_crops_without_waiting_for_it(root, draw, monkeypatch, no_waiting):
    # Also where matrix products may be rounded: positions must not be.
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", True)
    options = dict(wide=0.3, other_modality=0.5, ir_sets={"SMALL/train": 0.1})
    sampler_ = CropSampler(Data(root=str(root), sets={"CLASSES/train": 1.0}, crop=40, **options), 0, "cuda", True)
    with no_waiting:
        batch, _ = getattr(sampler_, draw)(8)
    assert all(value.device.type == "cuda" for value in batch.values())
    if draw == "deformed":
        check_flows(sampler(root, device="cuda").deformed(8)[0])
