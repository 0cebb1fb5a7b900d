"""hubconf.py: the pipeline loads through torch.hub, and runs, from a folder that is not the project's."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

PROGRAM = """
import sys
import torch
pipeline = torch.hub.load(sys.argv[1], "superfusion", source="local", registrar="matcher", device="cpu")
torch.manual_seed(0)
result = pipeline(torch.rand(1, 1, 32, 40), torch.rand(1, 3, 32, 40))
print(*result.fused.shape, bool(result.fused.isfinite().all()))
"""


@pytest.mark.slow  # it imports all of the libraries anew
def test_torch_hub_loads_a_pipeline_that_runs_anywhere(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(ROOT)], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1", "3", "32", "40", "True"]
