"""What sensors do to a scene: the camera, its optics, its spectral responses, and the blur learned from examples (stage 1)."""
