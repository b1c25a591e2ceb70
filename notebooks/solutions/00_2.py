# Wavelengths need not be sorted, so the nearest band is looked for; the small number keeps dark pixels from 0 / 0.
def ndvi(image, nm):
    infrared, red = (image[:, abs(nm - wanted).argmin()] for wanted in (842, 665))
    return (infrared - red) / (infrared + red).clamp_min(1e-6)
