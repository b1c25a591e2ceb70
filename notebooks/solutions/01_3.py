# A box in wavelength: every nanometre counts alike. Note the overlap of two spectrometers near 690 nm.
def panchromatic(wavelengths_nm):
    return responses.box_srf(wavelengths_nm, [(450, 900)])
