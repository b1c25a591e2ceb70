# HSI and reference branch once per image, the noise branch at each of 50 steps.
runs = 2 + 50
