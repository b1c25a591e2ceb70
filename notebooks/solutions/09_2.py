# The corner stays; pixels are 20 m wide, and a centre lies half a pixel from the corner of its pixel.
centre = 500_000 + (7 + 0.5) * 60 / 3, 4_480_000 - (4 + 0.5) * 60 / 3
