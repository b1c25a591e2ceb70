# One number, so trying them all is good enough. The error at the right width is rounding only.
def find_fwhm(sharp, blurry):
    def error(fwhm_px):
        psf = sensors.gaussian_psf(fwhm_px, scale=4)
        return float((sensors.upsample(sensors.blur_down(sharp, psf, 4), 4) - blurry).abs().mean())

    return min((step / 10 for step in range(20, 81)), key=error)
