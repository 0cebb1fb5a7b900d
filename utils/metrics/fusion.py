"""Fusion metrics by their reported names, and the entry point that scores an image triple.

Convention: gray images are ``(H, W)`` float64 tensors that hold whole numbers 0..255, on any device with float64; IR,
VI and fused have one size. A metric is ``metric(ir, vi, fused)``, a 0-d float64 tensor.
Definitions and constants follow the MATLAB suite behind the field's tables, except for ``APPEARANCE``, which is ours;
where its current version and that of 2022 differ, ``PAPER_SCALE`` contains the latter. Numbers printed in different
papers are not comparable: score all methods with the same code.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from utils.metrics import appearance, fmi, gradient, information, mef_ssim, perceptual, statistics, structural, vif
from utils.metrics.registry import Metric, higher, lower

METRICS: dict[str, Metric] = {
    "MI": higher(information.mutual_information),
    "VIF": higher(vif.visual_information_fidelity),
    "SSIM": higher(structural.structural_similarity),
    "FMI_dct": higher(fmi.fmi_dct),
    "FMI_w": higher(fmi.fmi_wavelet),
    "FMI_pixel": higher(fmi.fmi_edges),
    "Qabf": higher(gradient.edge_preservation),
    "Nabf": lower(gradient.artifacts),
    "EN": higher(information.entropy),
    "SD": higher(statistics.standard_deviation),
    "SF": higher(statistics.spatial_frequency),
    "AG": higher(statistics.average_gradient),
    "SCD": higher(statistics.sum_of_correlations_of_differences),
    "CC": higher(statistics.correlation),
    "MSE": lower(statistics.mean_squared_error),
    "PSNR": higher(statistics.peak_signal_to_noise),
    "MEF_SSIM": higher(mef_ssim.mef_ssim),
    "MEF_MS_SSIM": higher(mef_ssim.mef_ms_ssim),
    "Qcb": higher(perceptual.contrast_preservation),
    "Qcv": lower(perceptual.perceived_difference),
    "washed_out": lower(appearance.washed_out),
    "seams": lower(appearance.seams),
    "hidden_shown": higher(appearance.hidden_shown),
}

# The six of the SuperFusion paper.
PAPER = ("MI", "VIF", "SSIM", "FMI_dct", "Qabf", "Nabf")

# Ours: what people complain of in fused pictures. All others follow the field's definitions.
APPEARANCE = ("washed_out", "seams", "hidden_shown")

# Variants on the scale of tables printed in 2022; not a substitute for the metrics above.
PAPER_SCALE: dict[str, Metric] = {
    "VIF_old_uint8": higher(vif.visual_information_fidelity_saturated),
    "Nabf_01_right": lower(gradient.artifacts_equal_weights),
    "MI_merged": higher(information.mutual_information_merged),
}


def to_gray(rgb: Tensor) -> Tensor:
    """Convert RGB ``(3, H, W)``, whole numbers 0..255 of any dtype, to gray ``(H, W)`` as MATLAB's ``rgb2gray``.

    Halves are rounded away from zero.
    """
    if rgb.dim() != 3 or rgb.shape[0] != 3:
        raise ValueError(f"expected an RGB image of shape (3, H, W), got {tuple(rgb.shape)}")
    weights = torch.tensor((0.298936021293776, 0.587043074451121, 0.114020904255103), dtype=torch.float64)
    luminance = (rgb.double() * weights.to(rgb.device)[:, None, None]).sum(0)
    return torch.floor(luminance + 0.5)


def _checked(name: str, image: Tensor) -> Tensor:
    """Return a gray image as float64; raises ``ValueError`` if it violates the convention of this module."""
    if image.dim() != 2:
        raise ValueError(f"{name}: expected a gray image of shape (H, W), got {tuple(image.shape)}")
    if min(image.shape) < 3:
        raise ValueError(f"{name}: expected at least 3x3 pixels, got {image.shape[0]}x{image.shape[1]}")
    image = image.double()
    if image.isnan().any():
        raise ValueError(f"{name}: the image holds NaN")
    if (image != image.floor()).any() or image.min() < 0 or image.max() > 255:
        raise ValueError(f"{name}: expected whole numbers 0..255 (scale images in [0, 1] by 255 and round)")
    return image


def gray_levels(image: Tensor) -> Tensor:
    """Convert an image ``(1 or 3, H, W)`` in [0, 1] to the metrics' input: gray ``(H, W)``, whole numbers 0..255."""
    image = (image.double() * 255).round()
    return image[0] if len(image) == 1 else to_gray(image)


def fusion_metrics(ir: Tensor, vi: Tensor, fused: Tensor, names: Iterable[str] | None = None) -> dict[str, float]:
    """Score one fused image against its sources.

    ``ir``, ``vi``, ``fused``: gray ``(H, W)``, whole numbers 0..255 of any dtype, on one device. ``names``: keys of
    ``METRICS`` or ``PAPER_SCALE``, by default all of ``METRICS``. Returns ``{name: value}`` in the order of ``names``.
    Raises ``ValueError`` for an unknown name, images of different sizes, values outside the convention, and an image
    too small for a metric (41 pixels on each side suffice for all).
    """
    known = METRICS | PAPER_SCALE
    names = tuple(METRICS if names is None else names)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"unknown fusion metric {', '.join(unknown)}; known: {', '.join(known)}")
    images = {name: _checked(name, image) for name, image in (("ir", ir), ("vi", vi), ("fused", fused))}
    if len({image.shape for image in images.values()}) > 1:
        sizes = ", ".join(f"{name} {image.shape[0]}x{image.shape[1]}" for name, image in images.items())
        raise ValueError(f"the images differ in size (height x width): {sizes}")
    return {name: known[name](*images.values()).item() for name in names}
