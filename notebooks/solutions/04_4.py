# Slope and intercept of the line from the blurred window to the query patch.
def level(sharp, blurred, query):
    rest = blurred - blurred.mean()
    gain = (rest * (query - query.mean())).sum() / rest.square().sum()
    return gain * (sharp - blurred.mean()) + query.mean()
