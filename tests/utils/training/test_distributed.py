"""Two CPU processes train like one with the whole batch, stop together and continue exactly; and share a folder."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import train as train_script
from datasets.crops import CropSampler
from datasets.toy import toy_scene
from utils.errors import UserError
from utils.files.images import write_image
from utils.training.config import load_config
from utils.training.distributed import synchronise_batch_norm
from utils.training.stages import STAGES

WORKER = Path(__file__).with_name("distributed_worker.py")
NAMES = [f"{number:02d}" for number in range(6)]  # of the pairs to register, the last one damaged


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two pairs to train on and one to validate on, which three steps end with; and pairs to register."""
    folder = tmp_path_factory.mktemp("distributed")
    for seed in range(3):
        scene = toy_scene(seed, 64, 96)
        for part in ("ir", "vi"):
            write_image(folder / "S" / "train" / part / f"scene{seed}.png", getattr(scene, part))
    (folder / "recipe.yaml").write_text(
        f"data: {{root: {folder}, sets: {{S/train: 1}}, hold_out: 0.34, crop: 32}}\n"
        "train: {batch: 1, fusion_batch: 2, steps: 3, save_every: 2, validate_every: 3}\n"
    )
    for name in NAMES:
        scene = toy_scene(int(name), 48, 64)
        for part in ("ir", "vi"):
            write_image(folder / "shared" / part / f"{name}.png", getattr(scene, part))
    (folder / "shared" / "ir" / f"{NAMES[-1]}.png").write_bytes(b"damaged")
    config = load_config(folder / "recipe.yaml")
    torch.save(CropSampler(config.data, 0).deformed(2)[0], folder / "batch.pt")
    return folder


@pytest.fixture(scope="module")
def found(folder):
    """The results of both processes."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command, environment = [*launch, str(WORKER), str(folder)], os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            _, errors = process.communicate(timeout=900)  # on a machine however busy
        except subprocess.TimeoutExpired:
            process.terminate()  # the launcher ends its processes
            raise
    assert process.returncode == 0, errors
    assert errors.count("stopped after step 2, all is saved") == 1
    return [torch.load(folder / f"found{rank}.pt", weights_only=True) for rank in range(2)]


def close(a, b, tolerance=1e-5):
    return (a - b).norm() <= tolerance * b.norm()


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.slow
def test_gradients_are_those_of_one_process_with_the_whole_batch(folder, found):
    config = load_config(folder / "recipe.yaml")
    torch.manual_seed(0)
    stage = STAGES["RF"](config, torch.device("cpu"), 0)
    terms = stage.step(stage.network.train(), torch.load(folder / "batch.pt", weights_only=True))
    terms["total"].backward()
    parameters = dict(stage.network.named_parameters())
    assert equal(found[0]["gradients"], found[1]["gradients"]) and parameters.keys() == found[0]["gradients"].keys()
    whole, shared = (
        torch.cat([gradient.flatten() for gradient in gradients])
        for gradients in ((p.grad for p in parameters.values()), found[0]["gradients"].values())
    )
    assert whole.norm() > 0.1 and close(shared, whole)
    for name, parameter in parameters.items():
        assert (found[0]["gradients"][name] - parameter.grad).norm() < 1e-4 * parameter.grad.norm() + 1e-6, name
    for name, buffer in stage.network.named_buffers():
        assert close(found[0]["buffers"][name].float(), buffer.float()), name


@pytest.mark.slow
def test_batch_normalisation_sees_the_batches_of_all_processes(found):
    torch.manual_seed(0)
    images = torch.randn(4, 3, 5, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    module = nn.BatchNorm2d(3)
    nn.init.normal_(module.weight)
    result = module(images)
    result.square().mul(images.detach()).sum().backward()
    both = [each["normalised"] for each in found]
    assert close(torch.cat([each["result"] for each in both]), result)
    assert close(torch.cat([each["images"] for each in both]), images.grad)
    assert close(torch.cat([each["evaluated"] for each in both]), module.eval()(images))
    assert close(sum(each["weight"] for each in both), module.weight.grad)
    assert close(sum(each["bias"] for each in both), module.bias.grad)
    for name, tensor in module.state_dict().items():
        assert all(close(each["buffers"][f"0.{name}"].float(), tensor.float()) for each in both), name


@pytest.mark.slow
def test_processes_train_alike_stop_together_and_continue_exactly(folder, found):
    for run, code in (("straight", 0), ("interrupted", 130), ("resumed", 0)):
        assert all(each[run][0] == code for each in found)
        assert equal(found[0][run][1], found[1][run][1])
    assert equal(found[0]["resumed"][1], found[0]["straight"][1])
    assert not equal(found[0]["interrupted"][1], found[0]["straight"][1])
    straight, resumed = (
        torch.load(folder / run / "state.pt", weights_only=True) for run in ("straight", "interrupted")
    )
    assert equal(straight["average"], resumed["average"]) and equal(straight["network"], found[0]["straight"][1])
    draws = [process["sampler"]["generator"] for process in straight["random"]]
    assert len(draws) == 2 and not torch.equal(*draws)
    assert [row["step"] for row in straight["position"]["validations"]] == [3]
    assert len(list((folder / "straight" / "tensorboard").iterdir())) == 1


@pytest.mark.slow
def test_another_number_of_processes_is_refused(folder, found):
    options = ["--config", str(folder / "recipe.yaml"), "--out", str(folder / "straight"), "--device", "cpu"]
    with pytest.raises(UserError, match="state.pt: saved by 2 processes; resume with as many, not 1"):
        train_script.main([*options, "--resume"])


@pytest.mark.slow
def test_two_processes_share_a_folder(folder, found):
    """Each pair is done once, there is one summary, and what failed in either process is an error of the first."""
    out = folder / "shared" / "out"
    assert "5 pairs" in found[0]["shared"][0] and found[1]["shared"] == ("", "")
    assert "05.png: not a readable image" in found[0]["shared"][1]
    assert [row["name"] for row in csv.DictReader((out / "per_image.csv").open())] == NAMES[:5]
    assert sorted(path.stem for path in (out / "registered").iterdir()) == NAMES[:5]
    # Each process draws the sheets of its own first two pairs.
    assert sorted(path.stem for path in (out / "sheets").iterdir()) == NAMES[:4]


def test_gpus_normalise_by_torch_s_own_module_with_the_same_state():
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4, affine=False)), nn.BatchNorm2d(4))
    images = torch.randn(2, 3, 5, 6)
    module(images)  # which fills the running statistics
    expected, state = module.eval()(images), {name: tensor.clone() for name, tensor in module.state_dict().items()}
    synchronise_batch_norm(module, torch.device("cuda"))
    assert sum(isinstance(part, nn.SyncBatchNorm) for part in module.modules()) == 2
    assert equal(module.state_dict(), state) and torch.equal(module.eval()(images), expected)
