"""The user's interface: from an IR and a VI image, as tensors or files, to the registered and the fused image."""

from pathlib import Path

import torch
from torch import Tensor

from models.blending import blend, share_of_fused
from models.deploy.inference import OptimizedSuperFusion
from models.registration import REGISTRARS
from models.registration.registrar import ROTATION, SCALE
from models.results import Registration, Result
from models.superfusion import SuperFusion
from models.weights import SHIPPED, load_model
from utils.device import pick_device
from utils.files.images import read_image

MAX_SIDE = 1024


class Pipeline:
    """Register, fuse and blend a pair; all scripts and the check of the ONNX export use this class.

    ``registrar`` is a name of :data:`models.registration.REGISTRARS`; ``model`` may be None for one that needs no
    network, and then nothing can be fused. ``search``, ``scale`` and ``rotation`` bound the registrar's search
    (:class:`models.registration.registrar.Registrar`). ``precision``, ``compile`` and ``max_side`` are those of
    :class:`models.deploy.inference.OptimizedSuperFusion`, the form in which ``model`` runs, on its device.

    Raises ValueError for an unknown registrar or precision, or if the registrar needs a network and ``model`` is None.
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
    ):
        if registrar not in REGISTRARS:
            raise ValueError(f"registrar is {registrar!r}; use one of {', '.join(REGISTRARS)}")
        entry = REGISTRARS[registrar]
        if model is None and entry.uses_network:
            raise ValueError(f"the registrar {registrar} needs a network")
        self.device = torch.device(device)
        self.network = (
            None if model is None else OptimizedSuperFusion(model.to(self.device), precision, compile, max_side)
        )
        network = self.network.register if entry.uses_network else None
        self._register = entry.make(network, search=search, scale=scale, rotation=rotation)

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
    ) -> "Pipeline":
        """Load the pipeline of a checkpoint, ours or the authors'; ``device`` as in :func:`utils.device.pick_device`.

        Raises UserError for a checkpoint that cannot be loaded or a device that is not available.
        """
        options = (registrar, precision, max_side, compile, pick_device(device), search, scale, rotation)
        return cls(load_model(checkpoint), *options)

    @torch.inference_mode()
    def __call__(self, ir: Tensor | str | Path, vi: Tensor | str | Path) -> Result:
        """Register ``ir`` to ``vi`` and fuse them: tensors ``(B, 1 or 3, height, width)`` in [0, 1], or image files.

        The two may differ in size; the results have VI's, and lie on the pipeline's device. A refused pair
        (``result.accepted``) is fused all the same: look before you use it. Raises UserError for a file that cannot be
        read, ValueError for images that do not fit together or are too small.
        """
        ir, vi = (self._open(image, stretch) for image, stretch in ((ir, True), (vi, False)))
        return self.fuse_registered(ir, vi, self.register(ir, vi))

    def register(self, ir: Tensor, vi: Tensor) -> Registration:
        """Register ``ir`` ``(B, 1 or 3, h, w)`` to ``vi`` ``(B, 1 or 3, H, W)``, both in [0, 1], by the registrar.

        Raises ValueError for other shapes.
        """
        with torch.inference_mode():
            return self._register(ir.to(self.device), vi.to(self.device))

    @torch.inference_mode()
    def fuse_registered(self, ir: Tensor, vi: Tensor, registration: Registration) -> Result:
        """Fuse the pair of a ``registration`` by :meth:`register`; where IR has no content, ``fused`` is VI."""
        ir, vi = ir.to(self.device), vi.to(self.device)
        fused = self.fuse(registration.registered, vi)
        return Result(**vars(registration), fused=blend(fused, vi, share_of_fused(ir, registration)))

    def fuse(self, ir: Tensor, vi: Tensor) -> Tensor:
        """Fuse aligned images as :meth:`models.superfusion.SuperFusion.fuse` does."""
        return self.network.fuse(ir.to(self.device), vi.to(self.device))

    def _open(self, image: Tensor | str | Path, stretch: bool) -> Tensor:
        return image.to(self.device) if isinstance(image, Tensor) else read_image(image, stretch)[None].to(self.device)
