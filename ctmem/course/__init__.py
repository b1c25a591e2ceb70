"""Exercises of the notebooks, and a checker that answers as a teacher would.

    from ctmem.course import check, claim, score

    check("04.2", answer)  # "not tried yet", "right", or "not yet" with a hint; never the answer, never a traceback
    score()  # how far you are

    claim("two and two", 2 + 2, equals=4)  # what a notebook states, of `ctmem.teaching`

Each notebook's exercises stand in a module of its number, `e00` and so on; the mechanism in `exercise`.
"""

from ctmem.course.exercise import check, score
from ctmem.teaching import claim, progress, results_folder

__all__ = ["check", "claim", "progress", "results_folder", "score"]
