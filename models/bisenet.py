"""SeAFusion's BiSeNet, the segmenter of the semantic loss (Tang et al., Information Fusion 2022).

Classes: 0 background, 1 car, 2 person, 3 bike, 4 curve, 5 car stop, 6 guardrail, 7 colour cone, 8 bump; 255 ignored.
Modules are named as in the released file, which therefore loads without renaming.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvBN(nn.Module):
    """Convolution without bias, batch normalisation, then LeakyReLU(0.01), or a sigmoid with ``gate=True``."""

    def __init__(self, in_channels: int, out_channels: int, size: int, gate: bool = False):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, size, padding=size // 2, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return torch.sigmoid(x) if self.gate else F.leaky_relu(x, 0.01)


class AttentionRefinement(nn.Module):
    """Attention refinement module (ARM): 3x3 convolution, then a sigmoid gate per channel from its global average."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = ConvBN(in_channels, out_channels, 3)
        self.conv_atten = nn.Conv2d(out_channels, out_channels, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x * torch.sigmoid(self.bn_atten(self.conv_atten(x.mean(dim=(2, 3), keepdim=True))))


def backbone() -> nn.Module:
    """torchvision's ResNet-18 up to its last stage, without pretrained weights.

    It maps an image to a dictionary of features: "f8" at 1/8 (128 channels), "f16" at 1/16 (256), "f32" at 1/32 (512).
    """
    # Imported here because torchvision loads slowly and only the segmenter needs it.
    from torchvision.models import resnet18
    from torchvision.models._utils import IntermediateLayerGetter

    # create_feature_extractor builds the same network, but its tracing takes 0.1 s.
    return IntermediateLayerGetter(resnet18(weights=None), {"layer2": "f8", "layer3": "f16", "layer4": "f32"})


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


class ContextPath(nn.Module):
    """Merge the backbone's three scales; returns the merged 1/8 and the refined 1/16 features, 128 channels each."""

    def __init__(self):
        super().__init__()
        self.resnet = backbone()
        self.arm32 = AttentionRefinement(512, 128)
        self.arm16 = AttentionRefinement(256, 128)
        self.arm8 = AttentionRefinement(128, 128)
        self.sp16 = ConvBN(256, 128, 1)
        self.sp8 = ConvBN(256, 128, 1)
        self.conv_head32 = ConvBN(128, 128, 3)
        self.conv_head16 = ConvBN(128, 128, 3)
        self.conv_fuse1 = ConvBN(128, 128, 1, gate=True)
        self.conv_fuse2 = ConvBN(128, 128, 1, gate=True)
        self.conv_fuse = ConvBN(128, 128, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.resnet(x)
        f8, f16, f32 = features["f8"], features["f16"], features["f32"]
        a32 = self.arm32(f32)
        up16 = self.conv_head32(_resize(a32, like=f16))
        a16 = self.arm16(f16)
        c16 = _resize(self.sp16(torch.cat((up16, a16), dim=1)), like=f8)
        up8 = self.conv_head16(_resize(a16, like=f8))
        a8 = self.arm8(f8)
        c8 = self.sp8(torch.cat((up8, a8), dim=1))
        c16 = c16 * self.conv_fuse1(_resize(a32, like=f8))
        c8 = c8 * self.conv_fuse2(c16)
        return self.conv_fuse(c8), a16


class Head(nn.Module):
    """3x3 ConvBN and a 1x1 convolution without bias to the class logits."""

    def __init__(self, in_channels: int, channels: int, num_classes: int):
        super().__init__()
        self.conv = ConvBN(in_channels, channels, 3)
        self.conv_out = nn.Conv2d(channels, num_classes, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_out(self.conv(x))


class BiSeNet(nn.Module):
    """Bilateral segmentation network with a main and an auxiliary output; its construction downloads nothing."""

    compile_convolutions = nn.Module.compile  # the network consists of convolutions only

    def __init__(self, num_classes: int = 9):
        super().__init__()
        self.architecture = dict(num_classes=num_classes)
        self.cp = ContextPath()
        self.conv_out = Head(128, 128, num_classes)
        self.conv_out16 = Head(128, 64, num_classes)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map RGB ``(B, 3, H, W)`` in [0, 1] to logits and auxiliary logits, both ``(B, num_classes, H, W)``."""
        merged, a16 = self.cp(image)
        size = image.shape[-2:]
        logits, auxiliary = (
            F.interpolate(x, size=size, mode="bilinear", align_corners=True)
            for x in (self.conv_out(merged), self.conv_out16(a16))
        )
        return logits, auxiliary
