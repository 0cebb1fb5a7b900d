"""The user's interface: from an IR and a VI image, as tensors or files, to the registered and the fused image."""

import warnings
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from models.blending import content, fade
from models.deploy.inference import OptimizedSuperFusion
from models.registration import REGISTRARS, Transform
from models.registration.registrar import ROTATION, SCALE
from models.registration.registry import by_decision, registered_at
from models.registration.rig import RigRegistrar
from models.results import Registration, Result, as_images
from models.superfusion import SuperFusion
from models.weights import SHIPPED, load_model
from utils.device import pick_device
from utils.files.images import read_visible
from utils.files.infrared import DEFAULT, Reading, read_infrared

MAX_SIDE = 1024


class Pipeline:
    """Register, fuse and blend a pair; all scripts and the check of the ONNX export use this class.

    ``registrar`` is a name of :data:`models.registration.REGISTRARS`; ``model`` may be None for one that needs no
    network, and then nothing can be fused. ``search``, ``scale`` and ``rotation`` bound the registrar's search
    (:class:`models.registration.registrar.Registrar`). With the transform of a ``rig``, pairs are registered near it
    instead (:class:`models.registration.rig.RigRegistrar`). ``precision``, ``compile`` and ``max_side`` are those of
    :class:`models.deploy.inference.OptimizedSuperFusion`, the form in which ``model`` runs, on its device.
    ``ir_strength`` in [0, 1] is how much of IR the fused images take: VI + ir_strength (fused - VI).

    Raises ValueError for an unknown registrar or precision, if the registrar needs a network and ``model`` is None, or
    for another strength.
    """

    def __init__(
        self,
        model: SuperFusion | None,
        registrar: str = "auto",
        precision: str = "float32",
        max_side: int | None = MAX_SIDE,
        compile: bool = False,
        device: torch.device | str = "cpu",
        search: str = "auto",
        scale: tuple[float, float] = SCALE,
        rotation: float = ROTATION,
        rig: Transform | None = None,
        ir_strength: float = 1.0,
    ):
        if registrar not in REGISTRARS:
            raise ValueError(f"registrar is {registrar!r}; use one of {', '.join(REGISTRARS)}")
        entry = REGISTRARS[registrar]
        if model is None and entry.uses_network:
            raise ValueError(f"the registrar {registrar} needs a network")
        if not 0 <= ir_strength <= 1:
            raise ValueError(f"ir_strength is {ir_strength}; it lies in 0 to 1")
        self.ir_strength = ir_strength
        self.device = torch.device(device)
        self.network = (
            None if model is None else OptimizedSuperFusion(model.to(self.device), precision, compile, max_side)
        )
        network = self.network.register if entry.uses_network else None
        self._register = (
            entry.make(network, search=search, scale=scale, rotation=rotation)
            if rig is None
            else partial(by_decision, RigRegistrar(rig))
        )

    @classmethod
    def load(
        cls,
        checkpoint: str | Path = SHIPPED,
        registrar: str = "auto",
        device: str = "auto",
        precision: str = "float32",
        max_side: int | None = MAX_SIDE,
        compile: bool = False,
        search: str = "auto",
        scale: tuple[float, float] = SCALE,
        rotation: float = ROTATION,
        rig: Transform | None = None,
        ir_strength: float = 1.0,
    ) -> "Pipeline":
        """Load the pipeline of a checkpoint, ours or the authors'; ``device`` as in :func:`utils.device.pick_device`.

        Raises UserError for a checkpoint that cannot be loaded or a device that is not available.
        """
        options = (registrar, precision, max_side, compile, pick_device(device), search, scale, rotation, rig)
        return cls(load_model(checkpoint), *options, ir_strength)

    @torch.inference_mode()
    def __call__(self, ir: Tensor | str | Path, vi: Tensor | str | Path, reading: Reading = DEFAULT) -> Result:
        """Register ``ir`` to ``vi`` and fuse them: tensors ``(B, 1 or 3, height, width)`` in [0, 1], or files.

        Tensors of any float type become float32; integers, NaN, values outside [0, 1] and arrays are a ValueError.

        The two may differ in size; the results have VI's, and lie on the pipeline's device. A refused pair
        (``result.accepted``) is fused all the same: look before you use it. ``reading`` says how an IR file becomes an
        image; what there is to tell of a file is a warning. Raises UserError for a file that cannot be read, ValueError
        for images that do not fit together or are too small.
        """
        missing = None
        if isinstance(ir, str | Path):
            infrared = read_infrared(ir, reading)
            _warn(ir, infrared.notes)
            ir = infrared.image[None]
            missing = None if infrared.missing is None else infrared.missing[None]
        if isinstance(vi, str | Path):
            path, (vi, lines) = vi, read_visible(vi, reading.page, reading.vi_bits)
            _warn(path, lines)
            vi = vi[None]
        ir, vi = self._images(ir, vi)
        return self.fuse_registered(ir, vi, self.register(ir, vi, missing))

    def register(self, ir: Tensor, vi: Tensor, missing: Tensor | None = None) -> Registration:
        """Register ``ir`` ``(B, 1 or 3, h, w)`` to ``vi`` ``(B, 1 or 3, H, W)``, both in [0, 1], by the registrar.

        ``missing`` ``(B, 1, h, w)`` bool: pixels of ``ir`` that have no value (:meth:`Registration.without`). Raises
        ValueError for other shapes, types and ranges.
        """
        with torch.inference_mode():
            registration = self._register(*self._images(ir, vi))
            return registration if missing is None else registration.without(missing.to(self.device))

    @torch.inference_mode()
    def fuse_registered(self, ir: Tensor, vi: Tensor, registration: Registration) -> Result:
        """Fuse the pair of a ``registration`` by :meth:`register`; where IR has no content, ``fused`` is VI."""
        ir, vi = self._images(ir, vi)
        fused = self.fuse(registration.registered, vi)
        return Result(**vars(registration), fused=fade(fused, vi, content(ir, registration)))

    @torch.inference_mode()
    def reverse(self, vi: Tensor, registration: Registration) -> Registration:
        """Register ``vi`` ``(B, 3, H, W)`` to IR by the inverse of a ``registration`` by :meth:`register`.

        In the result the roles are exchanged: ``registered`` is VI on IR's frame.
        """
        positions = torch.stack([transform.map_ir2vi() for transform in registration.transforms])
        return registered_at(vi.to(self.device), positions)

    @torch.inference_mode()
    def fuse_on_ir(self, ir: Tensor, vi: Tensor, reverse: Registration, missing: Tensor | None = None) -> Tensor:
        """Fuse a pair on IR's frame, ``(B, 3, h, w)``, from the result of :meth:`reverse`; where VI shows nothing, the
        result is IR. ``missing`` as in :meth:`fuse`.
        """
        ir = ir.to(self.device)
        fused = self.fuse(ir, reverse.registered, missing)
        return fade(fused, ir, content(vi.to(self.device), reverse))

    def fuse(self, ir: Tensor, vi: Tensor, missing: Tensor | None = None) -> Tensor:
        """Fuse aligned images as :meth:`models.superfusion.SuperFusion.fuse` does, at the pipeline's strength of IR.

        Where ``ir`` has no value, at ``missing`` ``(B, 1, H, W)`` bool, and a little around, the result is VI.
        """
        ir, vi = self._images(ir, vi)
        fused = self.network.fuse(ir, vi)
        fused = torch.lerp(vi.expand_as(fused), fused, self.ir_strength)
        if missing is None:
            return fused
        here = Registration.by_flow(ir, ir.new_zeros(len(ir), 2, *ir.shape[-2:])).without(missing.to(self.device))
        return fade(fused, vi, content(ir, here))

    def _images(self, ir: Tensor, vi: Tensor) -> tuple[Tensor, Tensor]:
        """Return both images as float32 on the pipeline's device; ValueError for other types and ranges."""
        return as_images("ir", ir).to(self.device), as_images("vi", vi).to(self.device)


def _warn(path: str | Path, lines: list[str]) -> None:
    for line in lines:
        warnings.warn(f"{path}: {line}", stacklevel=3)
