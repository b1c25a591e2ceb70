"""Large scenes: one pass of statistics, a recipe for the whole scene, and tiles that are answered one by one."""
