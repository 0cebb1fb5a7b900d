"""Fusion metrics: cases worked by hand, slow twins written from the definitions, pinned and reference values."""

import csv
import math
from pathlib import Path

import cv2
import pytest
import torch

from utils.metrics import fmi, fmi_features
from utils.metrics.dmey import HIGH_PASS, LOW_PASS
from utils.metrics.fusion import APPEARANCE, METRICS, PAPER, PAPER_SCALE, fusion_metrics, to_gray

ALL = METRICS | PAPER_SCALE
# Defined by the field; the others have a test file of their own.
FIELD = [name for name in ALL if name not in APPEARANCE]
EMBEDDED = Path(__file__).resolve().parents[2] / "data" / "fusion"
# The MATLAB suite's own values, on images that may not be passed on; they lie beside the project or nowhere.
GOLDEN = Path(__file__).resolve().parents[4] / "shared" / "golden"


def gray(rows) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def constant(level: float, height: int = 48, width: int = 44) -> torch.Tensor:
    return torch.full((height, width), float(level), dtype=torch.float64)


def texture(seed: int, height: int = 48, width: int = 44) -> torch.Tensor:
    """Smooth waves and a little grain, whole numbers 0..255, from arithmetic alone (no random generator)."""
    y = torch.arange(height, dtype=torch.float64)[:, None]
    x = torch.arange(width, dtype=torch.float64)
    waves = torch.sin((0.2 + 0.03 * seed) * x + 0.11 * seed * y) + torch.cos(0.23 * y - 0.07 * seed * x)
    grain = (x * (7 + seed) + y * (13 + 5 * seed) + x * y) % 17
    return (127 + 55 * waves + grain - 8).round()


def fused_triple() -> list[torch.Tensor]:
    """IR, VI, and a fused image of raised contrast that invents edges and saturates at both ends."""
    ir, vi = texture(1), texture(2)
    return [ir, vi, (0.5 * ir + vi - 64).round().clamp(0, 255)]


def score(name: str, ir: torch.Tensor, vi: torch.Tensor, fused: torch.Tensor) -> float:
    value = ALL[name](ir, vi, fused)
    assert value.shape == () and value.dtype == torch.float64
    return value.item()


# ---- information ----------------------------------------------------------------------------------------------


def test_entropy_of_four_equally_frequent_levels_is_two_bits():
    image = gray([[0, 0, 85, 85], [170, 170, 255, 255]])
    assert score("EN", image, image, image) == pytest.approx(2)


def test_mutual_information_is_twice_the_entropy_for_equal_images():
    image = gray([[0, 0, 85, 85], [170, 170, 255, 255]])
    assert score("MI", image, image, image) == pytest.approx(2 * 2)


def test_mutual_information_of_independent_images_is_zero():
    rows, columns = gray([[0, 0], [255, 255]]), gray([[0, 255], [0, 255]])
    assert score("MI", rows, rows, columns) == pytest.approx(0, abs=1e-12)
    assert score("MI", rows, columns, columns) == pytest.approx(1)  # the second source alone is told


def test_merged_bin_hides_the_joint_uncertainty_of_the_two_top_levels():
    image = gray([[254, 254], [255, 255]])
    assert score("MI", image, image, image) == pytest.approx(2)
    assert score("MI_merged", image, image, image) == pytest.approx(4)  # marginals 1 bit each, joints 0
    dark = gray([[10, 20], [30, 253]])
    assert score("MI_merged", dark, dark, dark) == pytest.approx(score("MI", dark, dark, dark))


# ---- statistics -----------------------------------------------------------------------------------------------


def test_moments_of_the_fused_image_by_hand():
    plane = gray([[0, 3], [4, 7]])  # horizontal steps of 3, vertical steps of 4
    zero = torch.zeros_like(plane)
    assert score("SD", zero, zero, gray([[0, 0], [2, 2]])) == pytest.approx(1)
    assert score("SF", zero, zero, plane) == pytest.approx(5)
    assert score("AG", zero, zero, plane) == pytest.approx(4 * math.sqrt((9 + 16) / 2))  # four pixels over 1 * 1


def test_average_gradient_takes_central_differences_inside():
    image = gray([[0, 0, 8], [0, 0, 8], [0, 0, 8]])  # horizontal gradients 0, 4, 8 in each row
    assert score("AG", image, image, image) == pytest.approx(3 * (4 + 8) / math.sqrt(2) / 4)


def test_correlations_by_hand():
    ir, vi = gray([[10, 20], [30, 40]]), gray([[5, 1], [1, 5]])
    assert score("CC", ir, ir, ir) == pytest.approx(1)
    assert score("CC", ir, 255 - ir, ir) == pytest.approx(0)
    assert score("SCD", ir, vi, ir + vi) == pytest.approx(2)
    assert score("SCD", ir, vi, ir) == pytest.approx(math.sqrt(500 / 516))  # F - IR is flat; (ir - vi) with ir


def test_errors_by_hand():
    ir, vi = constant(0), constant(51)  # 51 / 255 = 0.2, squared 0.04, mean with 0
    assert score("MSE", ir, vi, ir) == pytest.approx(0.02)
    assert score("PSNR", ir, vi, ir) == pytest.approx(10 * math.log10(50))
    assert score("MSE", vi, vi, vi) == 0
    assert score("PSNR", vi, vi, vi) == math.inf


# ---- similarity -----------------------------------------------------------------------------------------------


def test_ssim_of_equal_and_of_constant_images():
    image = texture(1)
    assert score("SSIM", image, image, image) == pytest.approx(1)
    c1 = 2.55**2
    dim = (2 * 100 * 50 + c1) / (100**2 + 50**2 + c1)
    assert score("SSIM", constant(100), constant(50), constant(50)) == pytest.approx((dim + 1) / 2)


def test_ssim_of_one_bright_pixel_by_hand():
    """Under a window that gives the pixel the share w, mean and variance are 100 + 100 w and 100^2 w (1 - w); the
    fused image lacks the pixel, so there is no covariance."""
    ir, fused = constant(100, 13, 13), constant(100, 13, 13)
    ir[6, 6] = 200
    window = torch.tensor([math.exp(-((k - 5) ** 2) / 4.5) for k in range(11)], dtype=torch.float64)
    window = torch.outer(window, window) / window.sum() ** 2
    c1, c2, expected = 2.55**2, 7.65**2, 0.0
    for y in range(13):
        for x in range(13):
            inside = abs(y - 6) <= 5 and abs(x - 6) <= 5
            share = window[y - 6 + 5, x - 6 + 5].item() if inside else 0.0
            mean, variance = 100 + 100 * share, 100**2 * share * (1 - share)
            luminance = (2 * mean * 100 + c1) / (mean**2 + 100**2 + c1)
            expected += luminance * c2 / (variance + c2) / 13**2
    assert score("SSIM", ir, ir, fused) == pytest.approx(expected, rel=1e-12)


def test_vif_of_equal_flat_and_inverted_images():
    image = texture(1)
    assert score("VIF", image, image, image) == pytest.approx(2, abs=1e-6)
    assert score("VIF", image, image, constant(9)) == pytest.approx(0, abs=1e-12)
    assert score("VIF", image, image, 255 - image) == pytest.approx(0, abs=1e-12)
    assert score("VIF", image, constant(9), image) == pytest.approx(1, abs=1e-6)  # a flat source adds nothing


def test_vif_rises_above_one_a_source_where_contrast_is_raised():
    image = texture(2)
    quiet = (image / 4).round()
    assert score("VIF", quiet, quiet, 4 * quiet) > 2.5


def test_saturated_vif_differs_only_where_products_exceed_a_byte():
    dark, bright = (texture(1) / 17).floor(), texture(1)
    fused = (texture(2) / 17).floor()
    assert dark.max() <= 15
    assert score("VIF_old_uint8", dark, fused, fused) == pytest.approx(score("VIF", dark, fused, fused), rel=1e-12)
    assert abs(score("VIF_old_uint8", bright, bright, 17 * fused) - score("VIF", bright, bright, 17 * fused)) > 1e-3


def test_four_vif_scales_need_41_pixels():
    smallest = texture(1, 41, 41)
    assert score("VIF", smallest, smallest, smallest) == pytest.approx(2, abs=1e-6)
    with pytest.raises(ValueError, match="too small"):
        score("VIF", *[texture(1, 40, 60)] * 3)


def test_mef_ssim_of_one_patch_from_the_definition():
    x, y, fused = texture(1, 11, 11), (texture(2, 11, 11) / 2).round(), texture(3, 11, 11)
    deviation_x, deviation_y = x - x.mean(), y - y.mean()
    norm_x, norm_y = deviation_x.norm(), deviation_y.norm()
    consistency = (deviation_x + deviation_y).norm() / (norm_x + norm_y)
    power = min(math.tan(math.pi * consistency / 2), 10)
    contrast_x, contrast_y = norm_x + 0.001, norm_y + 0.001
    weight_x, weight_y = (contrast_x / 11) ** power, (contrast_y / 11) ** power
    desired = weight_x * deviation_x / contrast_x + weight_y * deviation_y / contrast_y
    desired = desired / desired.norm() * max(contrast_x, contrast_y)
    taps = torch.tensor([math.exp(-((k - 5) ** 2) / 4.5) for k in range(11)], dtype=torch.float64)
    window = torch.outer(taps, taps) / taps.sum() ** 2
    desired = desired - (window * desired).sum()
    deviation_f = fused - (window * fused).sum()
    top = 2 * (window * desired * deviation_f).sum() + 7.65**2
    bottom = (window * desired**2).sum() + (window * deviation_f**2).sum() + 7.65**2
    assert score("MEF_SSIM", x, y, fused) == pytest.approx((top / bottom).item(), rel=1e-9)


def test_mef_of_equal_and_of_flat_images():
    image = texture(1)
    for name in ("MEF_SSIM", "MEF_MS_SSIM"):
        assert score(name, image, image, image) == pytest.approx(1, abs=1e-4)
        assert score(name, constant(3), constant(90), constant(200)) == pytest.approx(1)


def test_mef_ms_ssim_is_the_weighted_product_over_halved_images():
    def halve(image):  # odd sizes: the last row or column is repeated
        even = torch.cat((image, image[-1:]))[: image.shape[0] + image.shape[0] % 2]
        even = torch.cat((even, even[:, -1:]), 1)[:, : image.shape[1] + image.shape[1] % 2]
        return (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4

    ir, vi = texture(1, 47, 45), texture(2, 47, 45)
    triple = original = [ir, vi, (ir + vi) // 2]
    expected = 1.0
    for weight in (0.0448, 0.2856, 0.3001):
        expected *= score("MEF_SSIM", *triple) ** (weight / 0.6305)
        triple = [halve(image) for image in triple]
    assert score("MEF_MS_SSIM", *original) == pytest.approx(expected, rel=1e-12)


def test_mef_ms_ssim_is_zero_where_a_scale_is_anticorrelated():
    image = texture(1)
    assert score("MEF_SSIM", image, image, 255 - image) < 0
    assert score("MEF_MS_SSIM", image, image, 255 - image) == 0


# ---- edges ----------------------------------------------------------------------------------------------------


def test_qabf_of_equal_images_is_its_analytical_bound():
    image = 10 * (texture(1) / 10).round()  # edges of strength 10 and more, so the first sigmoid is at its top
    bound = 0.9994 * 0.9879 / (1 + math.exp(-22 * 0.2))
    assert score("Qabf", image, image, image) == pytest.approx(bound, rel=1e-12)
    assert score("Qabf", constant(0), constant(0), image) == 0  # no edge to preserve


def test_qabf_from_the_definition_pixel_by_pixel():
    """Steps of few levels, so that vanishing differences and equal strengths occur; convolution as written, with
    the kernels turned over."""
    ir, vi, fused = ((texture(k, 9, 8) / 60).floor() for k in (1, 2, 3))
    kernel_x = ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1))
    kernel_y = ((1, 2, 1), (0, 0, 0), (-1, -2, -1))

    def edge(image, y, x):
        differences = []
        for kernel in (kernel_x, kernel_y):
            total = 0.0
            for i in range(3):
                for j in range(3):
                    row, column = y + 1 - i, x + 1 - j
                    if 0 <= row < 9 and 0 <= column < 8:
                        total += kernel[i][j] * image[row, column].item()
            differences.append(total)
        sx, sy = differences
        return math.hypot(sx, sy), math.pi / 2 if sx == 0 else math.atan(sy / sx)

    kept = total = 0.0
    equal_pairs = 0
    for source in (ir, vi):
        for y in range(9):
            for x in range(8):
                (g_s, a_s), (g_f, a_f) = edge(source, y, x), edge(fused, y, x)
                equal_pairs += g_s == g_f != 0
                strength = g_f if g_s == g_f else min(g_s, g_f) / max(g_s, g_f)
                aligned = 1 - abs(a_s - a_f) / (math.pi / 2)
                quality = 0.9994 / (1 + math.exp(-15 * (strength - 0.5)))
                quality *= 0.9879 / (1 + math.exp(-22 * (aligned - 0.8)))
                kept, total = kept + quality * g_s, total + g_s
    assert equal_pairs > 0
    assert score("Qabf", ir, vi, fused) == pytest.approx(kept / total, rel=1e-9)


def test_nabf_is_zero_without_new_edges():
    image = texture(1)
    for name in ("Nabf", "Nabf_01_right"):
        assert score(name, image, image, image) == 0
        assert score(name, image, image, constant(7)) == 0


def test_nabf_of_an_invented_step_by_hand():
    fused = constant(0, 6, 8)
    fused[:, 4:] = 100  # columns 3 and 4 of 8 hold an edge; orientation pi/2 off the flat sources' 0
    quality = math.sqrt(0.9999 / (1 + math.exp(9.5)) * 0.9995 / (1 + math.exp(11)))
    for name in ("Nabf", "Nabf_01_right"):
        assert score(name, constant(5, 6, 8), constant(9, 6, 8), fused) == pytest.approx(2 / 8 * (1 - quality))


@pytest.mark.parametrize(("name", "threshold"), [("Nabf", 2.0), ("Nabf_01_right", math.inf)])
def test_nabf_from_the_definition_pixel_by_pixel(name, threshold):
    ir, vi, fused = ((texture(k, 9, 8) / 8).floor() for k in (1, 2, 3))

    def edge(image, y, x):
        def at(row, column):  # mirrored about the edge pixel
            row, column = abs(row), abs(column)
            return image[row if row < 9 else 16 - row, column if column < 8 else 14 - column].item()

        v = h = 0.0
        for k, weight in ((-1, 1), (0, 2), (1, 1)):
            v += weight * (at(y + k, x + 1) - at(y + k, x - 1)) / 8
            h += weight * (at(y + 1, x + k) - at(y - 1, x + k)) / 8
        angle = (0.0 if v == 0 else math.copysign(math.pi / 2, v)) if h == 0 else math.atan(v / h)
        return math.hypot(v, h), angle

    lost = total = 0.0
    for y in range(9):
        for x in range(8):
            g_f, a_f = edge(fused, y, x)
            edges = [edge(source, y, x) for source in (ir, vi)]
            invented = all(g_f > g_s for g_s, _ in edges)
            for g_s, a_s in edges:
                strength = 0.0 if min(g_s, g_f) == 0 else min(g_s, g_f) / max(g_s, g_f)
                aligned = abs(abs(a_s - a_f) - math.pi / 2) * 2 / math.pi
                quality = 0.9999 / (1 + math.exp(-19 * (strength - 0.5)))
                quality = math.sqrt(quality * 0.9995 / (1 + math.exp(-22 * (aligned - 0.5))))
                weight = g_s**1.5 if g_s >= threshold else 0.001
                lost, total = lost + invented * (1 - quality) * weight, total + weight
    assert lost > 0
    assert score(name, ir, vi, fused) == pytest.approx(lost / total, rel=1e-9)


# ---- feature mutual information -------------------------------------------------------------------------------


def slow_window_score(source: list[float], fused: list[float]) -> float:
    """The score of one pair of 3x3 windows in column-major order, straight from the definition."""
    if source == fused:
        return 1.0

    def distribution(window):
        low, high = min(window), max(window)
        scaled = [1.0] * 9 if low == high else [(value - low) / (high - low) for value in window]
        return [value / sum(scaled) for value in scaled]

    def entropy(masses):
        return -sum(mass * math.log2(abs(mass)) for mass in masses if mass != 0)

    def spread(p):
        mean = sum((i + 1) * mass for i, mass in enumerate(p))
        return math.sqrt(sum(mass * (i + 1 - mean) ** 2 for i, mass in enumerate(p)))

    s, f = distribution(source), distribution(fused)
    top = sum((a - 1 / 9) * (b - 1 / 9) for a, b in zip(s, f, strict=True))
    c = 0.0
    if abs(top) > 1e-15:
        c = top / math.sqrt(sum((a - 1 / 9) ** 2 for a in s) * sum((b - 1 / 9) ** 2 for b in f))
    cdf_s, cdf_f = ([sum(p[: i + 1]) for i in range(9)] for p in (s, f))

    def bound(i, j):
        if i < 0 or j < 0:
            return 0.0
        return min(cdf_f[i], cdf_s[j]) if c >= 0 else max(cdf_f[i] + cdf_s[j] - 1, 0.0)

    limit = sum(bound(i, j) - cdf_f[i] * cdf_s[j] for i in range(9) for j in range(9))
    phi = 0.0
    if c != 0 and spread(s) * spread(f) != 0:
        phi = c / (limit / (spread(s) * spread(f)))
    joint = [
        phi * (bound(i, j) - bound(i - 1, j) - bound(i, j - 1) + bound(i - 1, j - 1)) + (1 - phi) * f[i] * s[j]
        for i in range(9)
        for j in range(9)
    ]
    total = entropy(s) + entropy(f)
    mutual = total - entropy(joint)
    return 0.0 if abs(mutual) < 1e-13 else 2 * mutual / total


def slow_feature_information(ir, vi, fused) -> float:
    def window(feature, y, x):
        return [feature[y + i, x + j].item() for j in range(3) for i in range(3)]

    height, width = fused.shape
    scores = [
        slow_window_score(window(source, y, x), window(fused, y, x))
        for source in (ir, vi)
        for y in range(height - 2)
        for x in range(width - 2)
    ]
    return sum(scores) / len(scores)


def test_fmi_score_agrees_with_the_slow_twin_on_all_kinds_of_windows():
    maps = [texture(k, 12, 11) for k in (1, 2, 3)]
    maps[0][:5, :5] = 40  # flat in a source, and below in the fused map
    maps[2][6:, 6:] = 90
    maps[1][:4, 6:] = maps[2][:4, 6:]  # equal windows
    maps[1][8:, :4], maps[2][8:, :4] = 0, 0  # single points of different height and place
    maps[1][9, 1], maps[2][9, 1], maps[2][10, 2] = 200, 7, 90
    value = fmi.feature_information(*maps, feature=lambda feature: feature).item()
    assert value == pytest.approx(slow_feature_information(*maps), abs=2e-6)


@pytest.mark.parametrize(("name", "feature"), [("FMI_dct", fmi_features.dct), ("FMI_pixel", fmi_features.edges)])
def test_fmi_metrics_score_their_feature(name, feature):
    triple = [85 * (texture(k, 12, 10) / 85).round() for k in (1, 2, 3)]  # steps, which make edges
    expected = slow_feature_information(*[feature(image) for image in triple])
    assert 0 < expected < 1
    assert score(name, *triple) == pytest.approx(expected, abs=2e-6)
    assert score(name, *[triple[0]] * 3) == 1


def test_fmi_w_scores_the_wavelet_bands():
    triple = [texture(k, 12, 10) for k in (1, 2, 3)]  # bands of 72x70 pixels: too many windows for the slow twin
    bands = [fmi_features.wavelet(image) for image in triple]
    assert score("FMI_w", *triple) == fmi.feature_information(*bands, feature=lambda feature: feature).item()
    corner = [band[30:42, 30:42] for band in bands]  # where the four bands meet
    value = fmi.feature_information(*corner, feature=lambda feature: feature).item()
    assert value == pytest.approx(slow_feature_information(*corner), abs=2e-6)
    assert score("FMI_w", *[triple[0]] * 3) == 1


def test_dct_by_matrices_as_on_a_gpu_is_that_of_a_cpu():
    image = fused_triple()[2][:30, :41].double()
    rows, columns = (fmi_features._dct_matrix(length, image) for length in image.shape)
    assert torch.allclose(rows @ image @ columns.T, fmi_features.dct(image), rtol=0, atol=2**-29)


def test_dct_of_a_constant_and_of_a_cosine():
    flat = fmi_features.dct(constant(3, 6, 8))
    assert flat[0, 0].item() == pytest.approx(3 * math.sqrt(48))
    assert flat.count_nonzero() == 1
    x = torch.arange(8, dtype=torch.float64)
    wave = fmi_features.dct(torch.cos(math.pi / 8 * 3 * (x + 0.5)).expand(6, 8))
    assert wave[0, 3].item() == pytest.approx(math.sqrt(6 * 4))  # orthonormal: the norm of the image
    assert wave.count_nonzero() == 1


def test_wavelet_bands_from_the_definition():
    """A 5x4 image against a loop: signals mirrored with repeated ends, convolved, every second sample kept."""

    def analyse(signal, taps):
        n, period = len(signal), 2 * len(signal)
        mirrored = signal + signal[::-1]
        return [
            sum(tap * mirrored[(2 * k + 1 - j) % period] for j, tap in enumerate(taps)) for k in range((n + 61) // 2)
        ]

    image = texture(1, 5, 4)
    along_x = {taps: [analyse(row, taps) for row in image.tolist()] for taps in (LOW_PASS, HIGH_PASS)}

    def band(taps_x, taps_y):
        columns = [analyse(list(column), taps_y) for column in zip(*along_x[taps_x], strict=True)]
        return torch.tensor(columns, dtype=torch.float64).T

    top = torch.cat((band(LOW_PASS, LOW_PASS), band(LOW_PASS, HIGH_PASS)), 1)
    bottom = torch.cat((band(HIGH_PASS, LOW_PASS), band(HIGH_PASS, HIGH_PASS)), 1)
    expected = torch.cat((top, bottom))
    expected = (expected - expected.min()) / (expected.max() - expected.min())
    assert torch.allclose(fmi_features.wavelet(image), expected, rtol=0, atol=1e-11)


def test_dmey_filter_sums():
    assert len(LOW_PASS) == len(HIGH_PASS) == 62
    assert sum(LOW_PASS) == pytest.approx(math.sqrt(2))
    assert sum(HIGH_PASS) == pytest.approx(0, abs=2e-3)  # so far does the approximation hold
    assert sum(a * b for a, b in zip(LOW_PASS, HIGH_PASS, strict=True)) == pytest.approx(0, abs=1e-12)


def test_flat_images_have_flat_features_not_rounding_noise():
    for name in ("FMI_dct", "FMI_w", "FMI_pixel"):
        assert score(name, constant(77), constant(77), constant(77)) == 1
    assert fmi_features.wavelet(constant(77)).unique().numel() <= 4  # one value a band


def test_edges_are_thinned_to_the_right_and_the_lower_pixel():
    step = constant(0, 7, 9)
    step[:, 4:] = 100  # both columns beside the step are equally strong
    expected = torch.zeros_like(step)
    expected[:, 4] = 1
    assert torch.equal(fmi_features.edges(step), expected)
    assert torch.equal(fmi_features.edges(step.T), expected.T)


def test_edges_need_four_times_the_mean_squared_strength():
    image = constant(0, 7, 12)
    image[:, 4:] = 100
    image[:, 8:] = 110  # squared strength 100 times below that of the other step
    found = fmi_features.edges(image)
    assert found[:, 4].all() and found.sum() == 7


# ---- perception -----------------------------------------------------------------------------------------------


def test_qcb_of_equal_and_of_flat_images():
    image = texture(1)
    assert score("Qcb", image, image, image) == pytest.approx(1)
    assert score("Qcb", image, constant(9), image) == pytest.approx(1)  # a flat source weighs nothing
    assert score("Qcb", image, image, constant(9)) == 0
    assert score("Qcb", image, image, (image - image.min()) // 2) < 1


def test_qcv_of_equal_images_is_zero():
    image = texture(1)
    assert score("Qcv", image, image, image) == 0


def test_qcv_of_stripes_by_hand():
    """Rows 0, 255, 0, 255, ... hold frequency 0 and the highest one only, each with amplitude 127.5."""
    stripes = constant(0, 16, 16)
    stripes[1::2] = 255

    def sensitivity(r):
        return 2.6 * (0.0192 + 0.144 * r) * math.exp(-((0.144 * r) ** 1.1))

    expected = 127.5**2 * (sensitivity(0) ** 2 + sensitivity(16 / 8) ** 2)
    assert score("Qcv", stripes, stripes, constant(40, 16, 16)) == pytest.approx(expected, rel=1e-9)


def test_qcv_fills_incomplete_blocks_with_zeros():
    """17 rows make two blocks, the second with one row of content, yet its mean is over 256 pixels."""
    stripes = constant(0, 17, 16)
    stripes[:, 1::2] = 255

    def sensitivity(r):
        return 2.6 * (0.0192 + 0.144 * r) * math.exp(-((0.144 * r) ** 1.1))

    full = 127.5**2 * (sensitivity(0) ** 2 + sensitivity(16 / 8) ** 2)
    kernel = gray([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    edges = torch.nn.functional.conv2d(stripes[None, None], torch.stack((kernel, kernel.T))[:, None], padding=1)
    salience = edges[0].norm(dim=0) ** 5
    upper, lower = salience[:16].sum().item(), salience[16:].sum().item()
    expected = (upper * full + lower * full / 16) / (upper + lower)
    assert score("Qcv", stripes, stripes, constant(40, 17, 16)) == pytest.approx(expected, rel=1e-9)


# ---- all of them ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_flat_images_give_defined_values(name):
    for triple in [(5, 5, 5), (0, 0, 0), (255, 0, 9), (0, 0, 9)]:
        assert not math.isnan(score(name, *(constant(level) for level in triple)))


@pytest.mark.parametrize("name", FIELD)
def test_the_two_sources_have_equal_rights(name):
    ir, vi, fused = fused_triple()
    assert score(name, ir, vi, fused) == pytest.approx(score(name, vi, ir, fused), rel=1e-6)


PINNED = {
    "MI": 8.6864937,
    "VIF": 0.28241747,
    "SSIM": 0.54434081,
    "FMI_dct": 0.41967978,
    "FMI_w": 0.42938809,
    "FMI_pixel": 0.99223602,
    "Qabf": 0.48051138,
    "Nabf": 0.073241885,
    "EN": 7.5679421,
    "SD": 61.477039,
    "SF": 20.368793,
    "AG": 12.369385,
    "SCD": 1.8873758,
    "CC": 0.65652173,
    "MSE": 0.036658144,
    "PSNR": 14.358295,
    "MEF_SSIM": 0.89616475,
    "MEF_MS_SSIM": 0.89499409,
    "Qcb": 0.62502446,
    "Qcv": 185.70299,
    "VIF_old_uint8": 0.26309642,
    "Nabf_01_right": 0.10734381,
    "MI_merged": 8.6874407,
}


@pytest.mark.parametrize("name", FIELD)
def test_pinned_values(name):
    """Values of this code on a small triple, taken when it agreed with the MATLAB suite's reference values."""
    ir, vi, fused = fused_triple()
    assert score(name, ir, vi, fused) == pytest.approx(PINNED[name], rel=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ALL)
def test_gpu_agrees_with_cpu(name):
    expected = score(name, *fused_triple())
    assert score(name, *(image.cuda() for image in fused_triple())) == pytest.approx(expected, rel=1e-5)


# ---- entry point ----------------------------------------------------------------------------------------------


def test_registry_names():
    assert set(PAPER) <= set(METRICS) and set(APPEARANCE) <= set(METRICS)
    assert not set(METRICS) & set(PAPER_SCALE)


def test_gray_conversion_rounds_halves_away_from_zero():
    primaries = torch.tensor([[[255, 0, 0, 255]], [[0, 255, 0, 255]], [[0, 0, 255, 255]]], dtype=torch.uint8)
    converted = to_gray(primaries)  # 76.23, 149.70, 29.08
    assert converted.dtype == torch.float64
    assert converted.tolist() == [[76, 150, 29, 255]]
    with pytest.raises(ValueError, match=r"\(3, H, W\)"):
        to_gray(torch.zeros(4, 4))


def test_entry_point_keeps_the_order_of_names_and_takes_bytes():
    triple = [texture(k) for k in (1, 2, 3)]
    scores = fusion_metrics(*(image.byte() for image in triple), names=("SF", "EN", "VIF_old_uint8"))
    assert list(scores) == ["SF", "EN", "VIF_old_uint8"]
    assert scores["SF"] == score("SF", *triple)
    assert isinstance(scores["EN"], float)


def test_entry_point_scores_every_metric_by_default():
    triple = [texture(k) for k in (1, 2, 3)]
    assert list(fusion_metrics(*triple)) == list(METRICS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vi": constant(0, 48, 45)}, "vi 48x45"),
        ({"fused": torch.full((48, 44), math.nan)}, "fused: the image holds NaN"),
        ({"ir": constant(0.5)}, "ir: expected whole numbers"),
        ({"ir": constant(256)}, "ir: expected whole numbers"),
        ({"ir": constant(-1)}, "ir: expected whole numbers"),
        ({"vi": torch.zeros(3, 48, 44)}, r"vi: expected a gray image"),
        ({"vi": torch.zeros(2, 44)}, "vi: expected at least 3x3"),
        ({"names": ("EN", "VFI")}, "unknown fusion metric VFI; known: MI, VIF,.*VIF_old_uint8"),
    ],
)
def test_bad_input_is_named(change, message):
    good = {"ir": constant(0), "vi": constant(0), "fused": constant(0), "names": ("EN",)}
    with pytest.raises(ValueError, match=message):
        fusion_metrics(**(good | change))


# ---- reference values -----------------------------------------------------------------------------------------

# Reported name: reference row and relative tolerance, where they are not the name itself and 1e-4.
REFERENCE_ROW = {
    "MI": "MI_nosat",
    "SSIM": "SSIM_L255",
    "Nabf": "Nabf_right",
    "MEF_MS_SSIM": "MS_SSIM",
    "MI_merged": "MI",
}
REFERENCE_TOLERANCE = {
    "FMI_dct": 1e-3,
    "FMI_w": 2e-3,
    "FMI_pixel": 1e-3,
    "Nabf": 1e-3,
    "MEF_SSIM": 1e-3,
    "MEF_MS_SSIM": 1e-3,
    "Qcb": 1e-3,
    "Qcv": 1e-3,
}
PRINTED_DIGIT = 1e-8  # of the reference values; they are no more exact than half of it


def matlab_references():
    """Yield ``(triple, paths of ir, vi and fused, {reported name: (value, absolute tolerance)})``, if any are there."""
    values = {}
    if GOLDEN.is_dir():
        with open(GOLDEN / "reference.csv", newline="") as file:
            for row in csv.DictReader(file):
                triple = "_".join((row["dataset"], row["name"], row["algorithm"]))
                values.setdefault(triple, {})[row["metric"]] = float(row["value"])
    for triple, rows in values.items():
        expected = {}
        for name in FIELD:
            value = rows[REFERENCE_ROW.get(name, name)]
            expected[name] = value, value * REFERENCE_TOLERANCE.get(name, 1e-4) + PRINTED_DIGIT / 2
        expected["PSNR"] = rows["PSNR"] - 20 * math.log10(255), 1e-3  # the suite's peak is 255 for images in [0, 1]
        expected["Nabf_01_right"] = rows["Nabf_01_right"], 0.02  # rounding noise of flat areas
        yield triple, [GOLDEN / "triples" / f"{triple}_{image}.png" for image in ("ir", "vi", "fused")], expected


def embedded_references():
    """The same for the triples in ``tests/data``, a tenth of the tolerance: only rounding may differ there."""
    values = {}
    with open(EMBEDDED / "expected.csv", newline="") as file:
        for row in csv.DictReader(file):
            values.setdefault(row["triple"], {})[row["metric"]] = float(row["value"])
    for triple, rows in values.items():
        expected = {name: (rows[name], abs(rows[name]) * REFERENCE_TOLERANCE.get(name, 1e-4) / 10) for name in FIELD}
        yield triple, [EMBEDDED / f"{triple}_{image}.png" for image in ("ir", "vi", "fused")], expected


@pytest.fixture(scope="module")
def references():
    """``{triple: ([ir, vi, fused], {reported name: (value, absolute tolerance)})}``."""
    found = {}
    for triple, paths, expected in (*embedded_references(), *matlab_references()):
        images = [torch.from_numpy(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)) for path in paths]
        found[triple] = images, expected
    return found


@pytest.mark.parametrize("name", FIELD)
def test_reference_values(name, references):
    for triple, (images, expected) in references.items():
        value, tolerance = expected[name]
        assert abs(fusion_metrics(*images, names=[name])[name] - value) <= tolerance, triple


def test_the_embedded_references_cover_every_metric():
    triples = list(embedded_references())
    assert len(triples) >= 2 and all(list(expected) == FIELD for _, _, expected in triples)
