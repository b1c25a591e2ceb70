"""Scenes of any size: one pass of statistics, then tile by tile through one pure function, to one writer."""
