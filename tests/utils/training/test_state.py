"""The state of a run on disk: round trip, allowed changes, errors."""

import dataclasses
import math

import pytest
import torch

from datasets.training_sets import Data
from losses.objectives import loss_weights
from utils.errors import UserError
from utils.training.config import Config, Train
from utils.training.state import Progress, load_state, save_state


def test_what_was_saved_comes_back(tmp_path):
    config = Config(data=Data(sets={"A/train": 1.0}, zoom=(0.5, 1.0)), model={"inputs": "rgb"})
    position = Progress(3, 0.5, 2, -4.0, [{"step": 2, "EPE_official": 4.0}])
    save_state(tmp_path / "state.pt", config, position=dataclasses.asdict(position), weights={"w": torch.ones(2)})
    state = load_state(tmp_path / "state.pt", config)
    assert Progress(**state["position"]) == position and torch.equal(state["weights"]["w"], torch.ones(2))
    assert Progress().best == -math.inf and Progress().validated is None


def test_a_run_may_get_longer_and_its_data_may_move(tmp_path):
    save_state(tmp_path / "state.pt", Config())
    longer = Train(steps=10**6, minutes=3.0, save_every=1, validate_every=1)
    load_state(tmp_path / "state.pt", Config(data=Data(root="elsewhere"), train=longer))


@pytest.mark.parametrize(
    "config, message",
    [
        (Config(stage="FS"), "stage 'RF' -> 'FS'"),
        (Config(data=Data(sets={"B/train": 1.0})), "data.sets.B/train None -> 1.0, data.sets.RoadScene/train 1.0 ->"),
        (Config(model={"inputs": "rgb"}), "model.inputs None -> 'rgb'"),
        (Config(train=Train(seed=1)), "train.seed 0 -> 1"),
    ],
)
def test_another_config_is_another_run(tmp_path, config, message):
    save_state(tmp_path / "state.pt", Config())
    with pytest.raises(UserError, match=r"state.pt: the run was begun with another config \(" + message):
        load_state(tmp_path / "state.pt", config)


def test_a_state_with_the_names_of_an_earlier_version_is_resumed(tmp_path):
    config = dataclasses.asdict(Config())
    config["loss"]["structure"] = config["loss"].pop("ssim")
    config["loss"]["end_point_register"] = config["loss"].pop("epe_register")
    config["train"]["precision"] = "no"
    torch.save({"config": config, "weights": torch.ones(2)}, tmp_path / "state.pt")
    assert torch.equal(load_state(tmp_path / "state.pt", Config())["weights"], torch.ones(2))
    with pytest.raises(UserError, match=r"another config \(loss.ssim 0.3 -> 0.2\)"):
        load_state(tmp_path / "state.pt", Config(loss=loss_weights(ssim=0.2)))


def test_files_that_are_no_state_are_refused(tmp_path):
    path = tmp_path / "state.pt"
    with pytest.raises(UserError, match="no such file; nothing to resume"):
        load_state(path, Config())
    save_state(path, Config(), weights=torch.ones(1000))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match="not a readable state"):
        load_state(path, Config())
    torch.save({"weights": torch.ones(2)}, path)
    with pytest.raises(UserError, match="not the state of a training run"):
        load_state(path, Config())
