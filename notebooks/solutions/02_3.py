# One number, so trying them all is good enough. The error at the right width is rounding only.
def find_fwhm(sharp, blurry):
    def error(fwhm_px):
        return float((ctmem.Camera.gaussian(fwhm_px).blur(sharp) - blurry).abs().mean())

    return min((step / 10 for step in range(20, 81)), key=error)
