"""The discrete Meyer wavelet's low-pass filter ("dmey"), as MATLAB's wavelet toolbox and PyWavelets tabulate it.

62 taps: a leading zero and 61 symmetric ones. The Meyer wavelet has no finite filter; this approximation (to 2e-3 in
energy) is the field's convention, hence a table instead of a formula.
"""

# From the outermost tap to the central one.
_HALF = (
    -1.009999956941423e-12,
    8.519459636796214e-09,
    -1.111944952595278e-08,
    -1.0798819539621958e-08,
    6.066975741351135e-08,
    -1.0866516536735883e-07,
    8.200680650386481e-08,
    1.1783004497663934e-07,
    -5.506340565252278e-07,
    1.1307947017916706e-06,
    -1.489549216497156e-06,
    7.367572885903746e-07,
    3.20544191334478e-06,
    -1.6312699734552807e-05,
    6.554305930575149e-05,
    -0.0006011502343516092,
    -0.002704672124643725,
    0.002202534100911002,
    0.006045814097323304,
    -0.006387718318497156,
    -0.011061496392513451,
    0.015270015130934803,
    0.017423434103729693,
    -0.03213079399021176,
    -0.024348745906078023,
    0.0637390243228016,
    0.030655091960824263,
    -0.13284520043622938,
    -0.035087555656258346,
    0.44459300275757724,
    0.7445855923188063,
)

# Convolution kernels of the analysis: the high-pass one is the low-pass one reversed with alternating signs.
LOW_PASS = (0.0, *_HALF, *_HALF[-2::-1])
HIGH_PASS = tuple(-tap if k % 2 == 0 else tap for k, tap in enumerate(reversed(LOW_PASS)))
