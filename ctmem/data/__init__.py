"""Scenes, areas of them that share no pixel, unpaired samples, and the files all these are kept in."""
