# Chosen on validation, once; what it then has on test was not chosen.
def report(validation, test):
    best = validation.argmax()
    return float(validation[best]), float(test[best])
