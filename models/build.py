"""Build a SuperFusion from the names of its networks, as a config's ``model`` and a checkpoint's metadata give them."""

from typing import Any

from torch import nn

from models.dense_matcher import DenseMatcher
from models.fusion_net import FusionNet
from models.published import PublishedMatcher, published_superfusion
from models.superfusion import SuperFusion

# A network of your own is a class with the interface of these, and an attribute ``architecture`` that holds its
# arguments; add it here and name it in the config: model: {fusion: {kind: MyFusion, width: 32}}.
MATCHERS: dict[str, type[nn.Module]] = {"DenseMatcher": DenseMatcher, "PublishedMatcher": PublishedMatcher}
FUSIONS: dict[str, type[nn.Module]] = {"FusionNet": FusionNet}

# Keys of checkpoints written before the networks were chosen by name: arguments of the matcher, all in one dictionary.
_MATCHER_KEYS = ("correlation", "cost_dilation", "cost_sigma", "inputs")


def build_superfusion(
    published: bool = False,
    matcher: dict[str, Any] | None = None,
    fusion: dict[str, Any] | None = None,
    passes: list[float] | None = None,
) -> SuperFusion:
    """The SuperFusion that a config's ``model`` describes; without arguments our default.

    ``matcher`` and ``fusion`` hold ``kind``, a name of :data:`MATCHERS` and :data:`FUSIONS`, and arguments of that
    class; what is not given is the default. ``published=True`` gives
    :func:`models.published.published_superfusion` and goes with nothing else.

    Raises ValueError or TypeError for an unknown kind or argument.
    """
    if published:
        if matcher or fusion or passes:
            raise ValueError("published=True fixes the networks; leave out matcher, fusion and passes")
        return published_superfusion()
    parts = _make("matcher", MATCHERS, "DenseMatcher", matcher), _make("fusion", FUSIONS, "FusionNet", fusion)
    return SuperFusion(*parts) if passes is None else SuperFusion(*parts, passes=passes)


def architecture(model: nn.Module) -> dict[str, Any]:
    """The arguments that rebuild ``model``: those of :func:`build_superfusion`, or another network's own."""
    if not isinstance(model, SuperFusion):
        return model.architecture  # type: ignore[return-value]
    return {
        "matcher": {"kind": type(model.matcher).__name__} | model.matcher.architecture,
        "fusion": {"kind": type(model.fusion).__name__} | model.fusion.architecture,
        "passes": list(model.passes),
    }


def from_metadata(saved: dict[str, Any]) -> dict[str, Any]:
    """The arguments of :func:`build_superfusion` from a checkpoint's ``architecture``, of today or of before."""
    if "correlation" not in saved:
        return saved
    if saved["published"]:
        return {"published": True}
    return {"matcher": {key: saved[key] for key in _MATCHER_KEYS}, "passes": saved["passes"]}


def _make(part: str, known: dict[str, type[nn.Module]], default: str, options: dict[str, Any] | None) -> nn.Module:
    options = dict(options or {})
    kind = options.pop("kind", default)
    if kind not in known:
        raise ValueError(f"{part}: kind is {kind!r}; use one of {', '.join(known)}")
    try:
        return known[kind](**options)
    except TypeError as error:
        raise TypeError(f"{part}: {error}") from error
