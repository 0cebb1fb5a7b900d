"""Build a SuperFusion from the names and arguments of its networks, as in configs (``model``) and checkpoints."""

from typing import Any

from torch import nn

from models.dense_matcher import DenseMatcher
from models.fusion_net import FusionNet
from models.published import PublishedMatcher, published_superfusion
from models.superfusion import LOCAL, PASSES, SuperFusion

# To add a network, write a class with the interface of these and an attribute ``architecture`` that holds its
# arguments; register it here and name it in the config: model: {fusion: {kind: MyFusion, width: 32}}.
MATCHERS: dict[str, type[nn.Module]] = {"DenseMatcher": DenseMatcher, "PublishedMatcher": PublishedMatcher}
FUSIONS: dict[str, type[nn.Module]] = {"FusionNet": FusionNet}

# Earlier checkpoints do not name their networks: these keys are arguments of the matcher, beside ``passes``.
_MATCHER_KEYS = ("correlation", "cost_dilation", "cost_sigma", "inputs")


def build_superfusion(
    published: bool = False,
    matcher: dict[str, Any] | None = None,
    fusion: dict[str, Any] | None = None,
    passes: list[float] | None = None,
    local: float | None = LOCAL,
) -> SuperFusion:
    """Build the SuperFusion that a config's ``model`` describes; without arguments, the project's default.

    ``matcher`` and ``fusion`` hold ``kind``, a name in :data:`MATCHERS` or :data:`FUSIONS`, and arguments of that
    class; ``passes`` and ``local`` are those of SuperFusion; omitted ones take their defaults. ``published=True``
    builds :func:`models.published.published_superfusion` and excludes all other arguments.

    Raises ValueError or TypeError for an unknown kind or argument.
    """
    if published:
        if matcher or fusion or passes or local != LOCAL:
            raise ValueError("published=True fixes the networks; leave out matcher, fusion, passes and local")
        return published_superfusion()
    parts = _make("matcher", MATCHERS, "DenseMatcher", matcher), _make("fusion", FUSIONS, "FusionNet", fusion)
    return SuperFusion(*parts, PASSES if passes is None else passes, local)


def architecture(model: nn.Module) -> dict[str, Any]:
    """Return the arguments that rebuild ``model``: of :func:`build_superfusion`, or of another network's class."""
    if not isinstance(model, SuperFusion):
        return model.architecture  # type: ignore[return-value]
    return {
        "matcher": {"kind": type(model.matcher).__name__} | model.matcher.architecture,
        "fusion": {"kind": type(model.fusion).__name__} | model.fusion.architecture,
        "passes": list(model.passes),
        "local": model.local,
    }


def from_metadata(saved: dict[str, Any]) -> dict[str, Any]:
    """Convert a checkpoint's ``architecture``, current or earlier format, to arguments of :func:`build_superfusion`."""
    if "correlation" not in saved:
        fusion = saved.get("fusion", {})
        # Earlier networks did not see the surroundings.
        return saved if fusion.get("kind") != "FusionNet" else saved | {"fusion": {"surroundings": False} | fusion}
    if saved["published"]:
        return {"published": True}
    matcher = {key: saved[key] for key in _MATCHER_KEYS}
    return {"matcher": matcher, "fusion": {"surroundings": False}, "passes": saved["passes"]}


def _make(part: str, known: dict[str, type[nn.Module]], default: str, options: dict[str, Any] | None) -> nn.Module:
    options = dict(options or {})
    kind = options.pop("kind", default)
    if kind not in known:
        raise ValueError(f"{part}: kind is {kind!r}; use one of {', '.join(known)}")
    try:
        return known[kind](**options)
    except TypeError as error:
        raise TypeError(f"{part}: {error}") from error
