# The smallest n with 10 · log10(1 + 1/n) < 0.1.
import math
many = next(k for k in range(1, 1000) if 10 * math.log10(1 + 1 / k) < 0.1)
