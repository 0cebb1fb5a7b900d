"""A trial of two files does what test.py does, and says in words what came of it."""

import pytest
import torch

from datasets.toy import toy_scene
from models import SuperFusion
from models.registration import Transform
from utils.demo.examples import write_examples
from utils.demo.trial import Settings, new_folder, try_pair
from utils.errors import UserError
from utils.files.images import read_image, write_image


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return SuperFusion(passes=(1.0,)).eval()


@pytest.fixture
def files(tmp_path):
    """IR and VI of two scenes."""
    paths = []
    for seed in range(2):
        scene = toy_scene(seed, 96, 128)
        paths.append((tmp_path / f"t{seed}.png", tmp_path / f"v{seed}.png"))
        write_image(paths[-1][0], scene.ir[:, :80, :100])
        write_image(paths[-1][1], scene.vi)
    return paths


def tried(model, ir, vi, tmp_path, start=None, **settings):
    folder = new_folder(tmp_path)
    trial = try_pair(model, torch.device("cpu"), ir, vi, Settings(registrar="structural", **settings), folder, start)
    return trial, {path.name: path for path in trial.files}


def test_an_accepted_pair_has_pictures_words_and_files(model, files, tmp_path):
    trial, taken = tried(model, *files[0], tmp_path)
    assert trial.verdict == "accepted" and trial.words.startswith("confidence 1.00, ") and trial.words.endswith(" s")
    assert sorted(taken) == ["fused_v0.png", "registered_v0.png", "thermal_v0.tiff", "v0.json", "v0.npz"]
    assert Transform.load(taken["v0.json"]).ir_size == (100, 80)  # finds its displacement beside it
    assert trial.pictures.moved.shape == (1, 96, 128)
    assert (read_image(taken["fused_v0.png"]) - trial.pictures.fused).abs().max() < 0.003
    assert not torch.equal(trial.pictures.before, trial.pictures.after)


def test_settings_count(model, files, tmp_path):
    trial, taken = tried(model, *files[0], tmp_path, ir_strength=0.0)
    assert torch.equal(read_image(taken["fused_v0.png"]), read_image(files[0][1]))
    trial, taken = tried(model, *files[0], tmp_path, frame="ir")
    assert "vi_registered_v0.png" in taken and "registered_v0.png" not in taken
    assert trial.pictures.fixed.shape[-2:] == trial.pictures.fused.shape[-2:] == (80, 100)


def test_a_refused_pair_has_a_reason_and_no_images(model, files, tmp_path):
    wrong = files[0][0], files[1][1]
    trial, taken = tried(model, *wrong, tmp_path, search="narrow")
    assert trial.verdict == "refused" and ", below 0.7: " in trial.words and list(taken) == ["v1.json"]
    assert trial.pictures.fused is None and trial.pictures.moved is not None
    assert "fused_v1.png" in tried(model, *wrong, tmp_path, search="narrow", keep_refused=True)[1]


def test_a_start_is_used_in_place_of_a_search(model, files, tmp_path):
    near = torch.tensor([[1.0, 0, 1.5], [0, 1, -1], [0, 0, 1]], dtype=torch.float64)
    start = Transform(near, (128, 96), (100, 80), confidence=0.5, source="points")
    trial, taken = tried(model, *files[0], tmp_path, start)
    assert trial.verdict == "accepted" and "your points, refined" in trial.words
    found = Transform.load(taken["v0.json"]).to_ir(torch.tensor([[50.0, 40]]))
    assert (found - torch.tensor([50.0, 40])).norm() < 0.5


def test_errors_name_the_file_alone(model, files, tmp_path):
    files[0][0].write_bytes(b"no picture")
    with pytest.raises(UserError, match="^t0.png: not a readable image"):
        tried(model, *files[0], tmp_path)


@pytest.mark.slow
def test_examples_are_files(tmp_path):
    examples = write_examples(tmp_path)
    assert list(examples) == ["daylight", "dusk", "night", "two unlike cameras"]
    sizes = {name: read_image(ir).shape for name, (ir, _) in examples.items()}
    assert sizes["dusk"] == (1, 480, 640) and sizes["two unlike cameras"][-2:] != (480, 640)
