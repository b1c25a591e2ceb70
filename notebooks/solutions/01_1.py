# Shares of 1.1 and 0.9 have an index of 0.1. The sun multiplies the red one by 1.52: red wins, and the sign turns.
infrared, red = 1.1, 0.9 * 1.52
ndvi_of_radiance = (infrared - red) / (infrared + red)
