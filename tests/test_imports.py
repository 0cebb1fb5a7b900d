"""Imports have one direction: from the scripts down to ``utils``, and in ``models`` never out of the paper's path."""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

SCRIPTS = {"train", "test", "evaluate", "export", "benchmark", "demo", "hubconf"}
# A room may import itself and what is listed. models.warping, the flow convention, is open to everyone.
GROUND = {"utils"}
ROOMS = {
    "utils": set(),
    "models": GROUND,
    "datasets": GROUND | {"models"},
    "losses": GROUND | {"models"},
    "utils.evaluation": GROUND | {"models", "datasets", "losses"},
    "utils.jobs": GROUND | {"models", "datasets", "utils.evaluation"},
    "utils.demo": GROUND | {"models", "datasets", "utils.evaluation", "utils.jobs"},
    "utils.training": GROUND | {"models", "datasets", "losses", "utils.evaluation"},
    "utils.benchmark": GROUND | {"models", "datasets", "losses", "utils.evaluation", "utils.jobs", "utils.training"},
}
# The modules of the paper's method must not depend on those for the authors' files, speed, export or real pairs.
PAPER = tuple(
    f"models.{name}" for name in ("superfusion", "dense_matcher", "fusion_net", "gsam", "layers", "correlation", "scan")
)
APART = tuple(f"models.{name}" for name in ("published", "deploy", "registration", "pipeline"))


def inside(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def room(module: str) -> str | None:
    """The most specific room that contains a module of the project; None for third-party modules."""
    found = [name for name in (*ROOMS, *SCRIPTS) if inside(module, name)]
    return max(found, key=len, default=None)


def imports(source: str, module: str, modules: set[str]) -> Iterator[str]:
    """Names of the modules that a file imports, at its top or inside a function.

    ``from package import name`` counts as ``package.name`` where that is one of ``modules``, else as ``package``.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:  # relative to the package, which a package's own __init__ is already
                parents = module.split(".")
                parents = parents[: len(parents) - node.level + (f"{module}.__init__" in modules)]
                base = ".".join([*parents, base] if base else parents)
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield whole if whole in modules else base


def complaint(module: str, imported: str) -> str | None:
    """Why ``module`` may not import ``imported``; None if it may."""
    own, other = room(module), room(imported)
    if other is None:
        return None
    if module == "models.warping":
        return "warping imports nothing of the project"
    if imported == "models.warping":
        return None
    if own in SCRIPTS:
        return f"one script imports another, {other}" if other in SCRIPTS else None
    if own != other and other not in ROOMS[own]:
        return f"upward, from {own} to {other}"
    if any(inside(module, name) for name in PAPER) and (
        imported == "models" or any(inside(imported, name) for name in APART)
    ):
        return "the paper's path needs none of published, deploy, registration, pipeline"
    return None


def complaints(files: dict[str, str]) -> list[str]:
    """One line for each forbidden import in ``{path from the root: source}``."""
    names = {}
    for path in files:
        module = path.removesuffix(".py").replace("/", ".")
        names[path] = module.removesuffix(".__init__")
    modules = set(names.values()) | {path.removesuffix(".py").replace("/", ".") for path in files}
    found = []
    for path, source in files.items():
        for imported in dict.fromkeys(imports(source, names[path], modules)):
            reason = complaint(names[path], imported)
            if reason:
                found.append(f"{path} imports {imported}: {reason}")
    return found


def project_files() -> Iterable[Path]:
    yield from (path for path in ROOT.glob("*.py") if path.stem in SCRIPTS)
    for package in ("models", "datasets", "losses", "utils"):
        yield from (ROOT / package).rglob("*.py")


def test_imports_run_one_way():
    files = {path.relative_to(ROOT).as_posix(): path.read_text() for path in project_files()}
    assert len(files) > 50
    assert "\n".join(complaints(files)) == ""


def test_every_script_is_known():
    assert {path.stem for path in ROOT.glob("*.py")} <= SCRIPTS


@pytest.mark.parametrize(
    "path, source, reason",
    [
        ("utils/colour.py", "from models.layers import blur", "upward, from utils to models"),
        ("utils/figures/plots.py", "import models.superfusion", "upward, from utils to models"),
        ("utils/metrics/fusion.py", "from utils.training import config", "upward, from utils to utils.training"),
        ("models/weights.py", "def load():\n    import datasets", "upward, from models to datasets"),
        ("models/layers.py", "from ..losses import flow", "upward, from models to losses"),
        ("models/warping.py", "import utils.errors", "imports nothing of the project"),
        ("datasets/crops.py", "from losses.flow import smoothness", "upward, from datasets to losses"),
        ("losses/flow.py", "import datasets.crops", "upward, from losses to datasets"),
        ("losses/objectives.py", "from utils.training.config import Loss", "upward, from losses to utils.training"),
        ("utils/evaluation/scoring.py", "from utils.training import log", "upward, from utils.evaluation to"),
        ("utils/training/log.py", "import utils.benchmark.measure", "upward, from utils.training to utils.benchmark"),
        ("utils/benchmark/measure.py", "import train", "upward, from utils.benchmark to train"),
        ("benchmark.py", "from train import rf_step", "one script imports another, train"),
        ("models/superfusion.py", "from models.published import PublishedMatcher", "the paper's path"),
        ("models/scan/__init__.py", "from models.deploy import onnx_forms", "the paper's path"),
        ("models/gsam.py", "from . import registration", "the paper's path"),
        ("models/layers.py", "from models import SuperFusion", "the paper's path"),
    ],
)
def test_a_forbidden_import_is_named(path, source, reason):
    files = {"models/__init__.py": "", "models/registration/__init__.py": "", "losses/flow.py": "", path: source}
    (line,) = complaints(files)
    assert line.startswith(f"{path} imports ") and reason in line


@pytest.mark.parametrize(
    "path, source",
    [
        ("utils/figures/plots.py", "import numpy, datasets_of_others\nfrom models.warping import warp"),
        ("utils/metrics/fusion.py", "from utils.metrics import vif\nfrom models import warping"),
        ("models/pipeline.py", "from models.deploy.inference import OptimizedSuperFusion\nimport utils.files.images"),
        ("models/scan/__init__.py", "from .reference import scan_reference\nfrom ..forms import usual"),
        ("utils/benchmark/scan.py", "import utils.training.config, utils.evaluation.scoring, losses, datasets, models"),
        ("train.py", "import utils.training.log, losses.flow, datasets.crops, models"),
    ],
)
def test_an_import_downwards_is_fine(path, source):
    known = ("models/__init__.py", "models/warping.py", "models/forms.py", "models/scan/reference.py", "losses/flow.py")
    assert complaints(dict.fromkeys(known, "") | {path: source}) == []
