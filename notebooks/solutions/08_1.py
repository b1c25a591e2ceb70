# 1 + 1/n of the least possible error.
import math
lost = 10 * math.log10(1 + 1 / 4)
