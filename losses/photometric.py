"""The photometric loss between a warped image and its undeformed counterpart (paper, Sec. III-D)."""

from torch import Tensor

from losses.basics import masked_mean, second_differences
from models.layers import blur, gaussian_kernel

_BLUR = (13, 2.0)  # taps, sigma in pixels


def standardise(image: Tensor, mask: Tensor) -> Tensor:
    """Subtract from each ``image`` ``(B, 1, H, W)`` its mean over ``mask`` and divide by its deviation there."""
    count = mask.sum(dim=(1, 2, 3), keepdim=True).clamp(min=1)
    centred = image - (image * mask).sum(dim=(1, 2, 3), keepdim=True) / count
    variance = (centred.square() * mask).sum(dim=(1, 2, 3), keepdim=True) / count
    return centred / (variance + 1e-6).sqrt()


def photometric(warped: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Return ``0.1 (L1 + L2)`` of blurred, standardised images + ``0.9 L1`` of second differences, inside ``mask``.

    ``warped`` and ``target`` are gray images of one modality, ``mask`` is 1 where ``warped`` has content, all ``(B, 1,
    H, W)``, images in [0, 1]. The weights are the paper's; the blur is a Gaussian of sigma 2. With kornia's blur the
    term takes 5 times as long, including the backward pass.
    """
    # Outside the mask both images are set to black, so that the blur carries no difference into the mask.
    warped, target = warped * mask, target * mask
    kernel = gaussian_kernel(*_BLUR, warped.device)
    smooth = [standardise(blur(image, kernel, border="replicate"), mask) for image in (warped, target)]
    difference = smooth[0] - smooth[1]
    appearance = masked_mean(difference.abs() + difference.square(), mask)
    inside_y, inside_x = (
        mask[:, :, 2:] * mask[:, :, 1:-1] * mask[:, :, :-2],
        mask[:, :, :, 2:] * mask[:, :, :, 1:-1] * mask[:, :, :, :-2],
    )
    # Second differences are linear, so those of the difference image suffice.
    along_y, along_x = second_differences(warped - target)
    curvature = masked_mean(along_y.abs(), inside_y) + masked_mean(along_x.abs(), inside_x)
    return 0.1 * appearance + 0.9 * curvature
