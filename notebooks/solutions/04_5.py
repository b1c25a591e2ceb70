tilt = 15  # at 7.5° there are still four placements, one for each part of the area
