"""Writes data/indian_pines_repair.csv: which numbers of the Indian Pines scene lost 768 to a text conversion.

    python data/make_indian_pines_repair.py

Somewhere on its way to us the image went through a transfer meant for text: every byte 0x0D (carriage return)
became 0x0A (line feed). No byte of it is 0x0D, and 0x0A is twice as frequent as its neighbours. In a high
byte that takes 13 − 10 = 3 times 256 from the number, so that each number from 2560 to 2815 may really be one
from 3328 to 3583. Which it is can be told from the rest of its spectrum: the spectra of this scene lie close
to a space of a dozen dimensions, far closer than 768, but in the noisy first band. (In a low byte the same
loss is 3, less than the noise; it stays.)
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

SEEN, LOST = 0x0A, 0x0D
TARGET = Path(__file__).with_name("indian_pines_repair.csv")


def low_rank(values: np.ndarray, rank: int) -> np.ndarray:
    """The spectra (N, C) projected on their mean and `rank` principal directions."""
    mean = values.mean(0)
    _, directions = np.linalg.eigh(np.cov(values.T))
    directions = directions[:, -rank:]
    return mean + (values - mean) @ directions @ directions.T


def raised(numbers: np.ndarray, seen: int = SEEN, lost: int = LOST) -> np.ndarray:
    """Which numbers (N, C) with high byte `seen` really have high byte `lost`, by what their spectra say.

    The doubtful numbers start half-way between their two readings. They are then moved, again and again, to
    where the low-rank projection expects them (never beyond the two readings), while the rank grows from 3 to
    12.
    """
    doubtful, step = numbers >> 8 == seen, 256 * (lost - seen)
    low = numbers.astype(np.float64)
    guess = low + step / 2 * doubtful
    for rank in np.repeat(range(3, 13), 3):
        expected = low_rank(guess, rank)
        guess = np.where(doubtful, np.clip(expected, low, low + step), low)
    return doubtful & (expected > low + step / 2)


def main() -> None:
    """Decides, and writes a line per image row: the bits of its doubtful numbers in order, packed, as hex."""
    import tensorly.datasets

    numbers = np.asarray(tensorly.datasets.load_indian_pines().tensor).astype(np.int64)
    bits = raised(numbers.reshape(-1, numbers.shape[2])).reshape(numbers.shape)
    with TARGET.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("row", "raised"))
        for row, (line, flags) in enumerate(zip(numbers, bits, strict=True)):
            table.writerow((row, np.packbits(flags[line >> 8 == SEEN]).tobytes().hex()))
    print(f"{TARGET.name}: {bits.sum()} of {(numbers >> 8 == SEEN).sum()} doubtful numbers raised")


if __name__ == "__main__":
    main()
