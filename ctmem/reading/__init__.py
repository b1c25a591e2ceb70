"""The border that files of other people cross: what they claim is weighed before anything of it is decoded."""
