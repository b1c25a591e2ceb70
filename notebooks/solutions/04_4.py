tilt = 15  # at half of it some placements are left, each for a part of the area
