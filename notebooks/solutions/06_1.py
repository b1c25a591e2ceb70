# exp(−Δ·145) is a half.
import math

delta = math.log(2) / 145
