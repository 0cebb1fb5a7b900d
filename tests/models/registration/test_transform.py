"""Transforms between files: known maps, both directions, composition, one resampling, and survival of a save."""

import pytest
import torch

from models.registration.transform import Transform, points_matrix
from models.warping import pixel_grid, warp
from utils.errors import UserError

VI, IR = (120, 90), (64, 48)  # width, height
MATRIX = torch.tensor([[0.5, -0.05, 3.0], [0.04, 0.52, 1.5], [1e-4, -2e-4, 1.0]], dtype=torch.float64)


def bent(matrix: torch.Tensor = MATRIX) -> Transform:
    """With a smooth displacement of up to 2 px."""
    angle = torch.linspace(0, 3, 12)
    return Transform(matrix, VI, IR, 2 * torch.stack((angle.sin().expand(9, 12), angle.cos().expand(9, 12))))


def points(size: tuple[int, int]) -> torch.Tensor:
    return torch.rand(50, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor(size)


def test_a_homography_by_hand():
    found = Transform(MATRIX, VI, IR).to_ir(torch.tensor([[10.0, 20.0]]))
    w = 1e-4 * 10 - 2e-4 * 20 + 1
    assert found[0].tolist() == pytest.approx([(5 - 1 + 3) / w, (0.4 + 10.4 + 1.5) / w])


@pytest.mark.parametrize("transform", [Transform(MATRIX, VI, IR), bent()])
def test_both_directions_undo_each_other(transform):
    p = points(VI).double()
    assert torch.allclose(transform.to_vi(transform.to_ir(p)), p, atol=1e-6)


def test_inverse_and_composition():
    transform = bent()
    p = points(VI).double().clamp(10, 80)
    # The inverse keeps its displacement on a grid, so it is close, not equal.
    assert (transform.inverse().to_ir(transform.to_ir(p)) - p).norm(dim=1).max() < 0.1
    second = Transform(torch.diag(torch.tensor([2.0, 2.0, 1.0], dtype=torch.float64)), IR, (128, 96), accepted=False)
    both = transform.then(second)
    assert (both.to_ir(p) - 2 * transform.to_ir(p)).norm(dim=1).max() < 0.1
    assert both.vi_size == VI and both.ir_size == (128, 96) and not both.accepted
    with pytest.raises(ValueError, match="begins in"):
        second.then(transform)


def test_save_and_load(tmp_path):
    transform = bent()
    transform.save(tmp_path / "a" / "pair.json")
    loaded = Transform.load(tmp_path / "a" / "pair.json")
    assert torch.allclose(loaded.to_ir(points(VI)), transform.to_ir(points(VI)))
    assert (loaded.vi_size, loaded.ir_size, loaded.source) == (VI, IR, "given")
    assert {file.name for file in (tmp_path / "a").iterdir()} == {"pair.json", "pair.npz"}
    for text in ("{}", '{"vi_to_ir": [[1, 0], [0, 1]], "vi_size": [4, 4], "ir_size": [4, 4]}', "no"):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(UserError, match="bad.json: not a transform"):
            Transform.load(tmp_path / "bad.json")
    (tmp_path / "a" / "pair.npz").write_bytes(b"PK damaged")
    with pytest.raises(UserError, match="pair.json: not a transform"):
        Transform.load(tmp_path / "a" / "pair.json")
    (tmp_path / "a" / "pair.npz").unlink()
    with pytest.raises(UserError, match="pair.npz: cannot be read"):
        Transform.load(tmp_path / "a" / "pair.json")


def test_the_map_and_the_flow_agree_with_the_projects_warp():
    image = torch.rand(1, 3, 90, 120, generator=torch.Generator().manual_seed(1))
    shift = torch.eye(3, dtype=torch.float64)
    shift[0, 2], shift[1, 2] = 2.25, -1.5
    transform = Transform(shift, VI, VI)
    assert transform.map_vi2ir().shape == (2, 90, 120)
    result, valid = transform.warp_ir(image, "bilinear")
    flow = transform.map_vi2ir()[None] - pixel_grid(90, 120, image)
    assert torch.allclose(result, warp(image, flow) * valid, atol=1e-5)


def test_arrays_of_either_file():
    transform = Transform(MATRIX, VI, IR)
    labels = torch.arange(48 * 64).view(1, 1, 48, 64)
    moved, valid = transform.warp_ir(labels, "nearest")
    assert moved.shape == (1, 1, 90, 120) and moved.dtype == labels.dtype
    assert set(moved[valid > 0].tolist()) <= set(labels.flatten().tolist()) and (moved[valid == 0] == 0).all()
    back, inside = transform.warp_vi(torch.ones(2, 1, 90, 120))
    assert back.shape == (2, 1, 48, 64) and torch.equal(back, inside.expand(2, -1, -1, -1))
    with pytest.raises(ValueError, match="the array is"):
        transform.warp_ir(torch.ones(1, 1, 90, 120))


def test_a_bicubic_result_stays_within_the_image():
    step = (torch.arange(64) > 30).float().expand(1, 1, 48, 64)
    result, _ = Transform(MATRIX, VI, IR).warp_ir(step)
    assert result.min() >= 0 and result.max() <= 1


def test_points_of_a_file():
    corners = points_matrix(VI) @ torch.tensor([[0.0, 119], [0, 89], [1, 1]], dtype=torch.float64)
    assert corners[:2, 0].tolist() == pytest.approx([-59.5 / 60, -44.5 / 60])
    assert corners[:2, 1].tolist() == pytest.approx([59.5 / 60, 44.5 / 60])
