"""The user's interface: from an IR and a VI image, as tensors or files, to the registered and the fused image."""

from pathlib import Path

import torch
from torch import Tensor

from models.blending import blend, share_of_fused
from models.deploy.inference import OptimizedSuperFusion
from models.registration import REGISTRARS
from models.results import Registration, Result
from models.superfusion import SuperFusion
from models.warping import resize
from models.weights import SHIPPED, load_model
from utils.device import pick_device
from utils.files.images import read_image

MAX_SIDE = 1024


class Pipeline:
    """Register, fuse and blend a pair; all scripts and the check of the ONNX export use this class.

    ``registrar`` is a name in :data:`models.registration.REGISTRARS`. ``model`` may be None for a registrar without a
    network; such a pipeline cannot fuse. ``model`` runs as a :class:`models.deploy.inference.OptimizedSuperFusion` with
    ``precision``, ``compile`` and ``max_side``, on ``device``.

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
        self._register = entry.make(self.network.register if entry.uses_network else None)

    @classmethod
    def load(
        cls,
        checkpoint: str | Path = SHIPPED,
        registrar: str = "auto",
        device: str = "auto",
        precision: str = "float32",
        max_side: int | None = MAX_SIDE,
        compile: bool = False,
    ) -> "Pipeline":
        """Load the pipeline of a checkpoint, ours or the authors'; ``device`` as in :func:`utils.device.pick_device`.

        Raises UserError for a checkpoint that cannot be loaded or a device that is not available.
        """
        return cls(load_model(checkpoint), registrar, precision, max_side, compile, pick_device(device))

    @torch.inference_mode()
    def __call__(self, ir: Tensor | str | Path, vi: Tensor | str | Path) -> Result:
        """Register ``ir`` to ``vi`` and fuse them: ``(B, 1 or 3, H, W)`` in [0, 1], or image files.

        IR is resized to VI's size first if they differ. The results are on the pipeline's device; where the registered
        image has no content, ``fused`` is VI. Raises UserError for a file that cannot be read, and ValueError for
        images whose shapes do not match or that are smaller than 32x32.
        """
        ir, vi = (self._open(image, stretch) for image, stretch in ((ir, True), (vi, False)))
        if ir.shape[-2:] != vi.shape[-2:]:
            ir = resize(ir, vi.shape[-2:])
        registration = self.register(ir, vi)
        fused = self.fuse(registration.registered, vi)
        return Result(**vars(registration), fused=blend(fused, vi, share_of_fused(ir, registration)))

    def register(self, ir: Tensor, vi: Tensor) -> Registration:
        """Register ``ir`` to ``vi``, both ``(B, 1 or 3, H, W)`` in [0, 1], with the pipeline's registrar.

        Raises ValueError for other shapes.
        """
        with torch.inference_mode():
            return self._register(ir.to(self.device), vi.to(self.device))

    def fuse(self, ir: Tensor, vi: Tensor) -> Tensor:
        """Fuse aligned images as :meth:`models.superfusion.SuperFusion.fuse` does."""
        return self.network.fuse(ir.to(self.device), vi.to(self.device))

    def _open(self, image: Tensor | str | Path, stretch: bool) -> Tensor:
        return image.to(self.device) if isinstance(image, Tensor) else read_image(image, stretch)[None].to(self.device)
