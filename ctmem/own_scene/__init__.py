"""A scene of yours, from file to file."""
