# A Gaussian exp(−d²/2σ²) is one half at d = FWHM/2.
import math


def sigma_px(fwhm_px):
    return fwhm_px / (2 * math.sqrt(2 * math.log(2)))
