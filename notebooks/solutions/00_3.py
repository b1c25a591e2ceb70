# Coarsen the estimate, upsample what is missing, add it, and repeat. `camera.back_project` does the same.
def sharpen(lr_hsi):
    camera = ctmem.Camera.gaussian(scale=4)
    pred = camera.upsample(lr_hsi)
    for _ in range(10):
        pred = pred + camera.upsample(lr_hsi - camera.downsample(pred))
    return pred
