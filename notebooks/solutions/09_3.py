# The root mean square is 2000 steps.
import math
rounding_db = 20 * math.log10(0.2 * 10_000 * math.sqrt(12))
