"""Gives the shipped weights their envelope, and their cards the checksums of the files beside them: data/seal_weights.py

Tensors are not changed: `ctmem.files` writes what it read. Files that have an envelope stay as they are.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

from ctmem.card import write_card
from ctmem.files import load_tensors, save_tensors

warnings.simplefilter("ignore", RuntimeWarning)  # weights without an envelope are what this is for
for path in sorted((Path(__file__).parent / "weights").glob("*/card.json")):
    sealed = {}
    for file in sorted(path.parent.glob("*.safetensors")):
        tensors, metadata = load_tensors(file)
        sealed[file.name] = metadata.get("sha256") or save_tensors(tensors, file, metadata)
    card = json.loads(path.read_text(encoding="utf-8"))
    write_card(card | {"weights": sealed}, path)
    print(f"{path.parent.name}: {', '.join(sealed)}")
