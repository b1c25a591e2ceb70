"""What sensors do to a scene: the camera, its optics and responses, and the blur learned from examples (stage 1)."""
