# The chance that none of the fourteen errs is 0.95 to the power of 14; the rest is that at least one does.
at_least_one = 100 * (1 - 0.95**14)
