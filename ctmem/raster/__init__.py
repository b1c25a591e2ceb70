"""Scenes as files: opened without being read, read by windows, and written with all that was known about them."""
