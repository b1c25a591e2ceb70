# Coarsen the estimate, upsample what is missing, add it, and repeat. `baselines.back_project` does the same.
def sharpen(lr_hsi):
    psf = sensors.default_psf(4)
    pred = sensors.upsample(lr_hsi, 4)
    for _ in range(10):
        pred = pred + sensors.upsample(lr_hsi - sensors.blur_down(pred, psf, 4), 4)
    return pred
