"""Data that a package ships or that is drawn, so that the first run needs no download."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor

from coppice_pruner.data.shapes import shapes100
from coppice_pruner.data.splits import Samples, Splits
from coppice_pruner.tasks import CAUSAL_LANGUAGE_MODELING, TEXT_CLASSIFICATION

CHARACTERS = 128
"""Tokens of `prose`: ASCII, everything else as a question mark."""
WORDS = 1000
"""Tokens of `topics`: 0 is any other word, the rest the most frequent words of the training text."""
TOPICS = ("compound", "debugger", "formatstrings", "string-methods", "types", "typesseq")
_EVALUATION_SHARE = 0.3
_SPLIT_SEED = 0
_SNIPPET_WORDS = 32
_SNIPPET_STEP = 8
_BLOCK_WORDS = 128
_BLOCKS_PER_EVALUATION = 4
_CONTEXT_TOKENS = 64


def digits() -> Splits:
    """Return 1,797 real handwritten digits of 8 x 8 pixels, split 70 to 30 with equal shares of each digit.

    Values are scaled to 0..1 and then standardised with the training split's mean and deviation.

    Source: UCI "Optical Recognition of Handwritten Digits" test set, as scikit-learn ships it.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images = torch.from_numpy(bunch.images).float().unsqueeze(1) / 16.0
    labels = torch.from_numpy(bunch.target).long()
    train, evaluation = train_test_split(
        range(len(labels)), test_size=_EVALUATION_SHARE, random_state=_SPLIT_SEED, stratify=bunch.target
    )
    mean, deviation = images[train].mean(), images[train].std()
    images = (images - mean) / deviation
    return Splits(
        Samples((images[train],), labels[train]),
        Samples((images[evaluation],), labels[evaluation]),
        tuple(str(digit) for digit in range(10)),
    )


def topics() -> Splits:
    """Return real text to classify: 32 words of Python's manual, and which of six of its topics they are from.

    Training snippets overlap; the evaluation split is every fourth block of 128 words, which no training snippet
    touches.
    Inputs are tokens and a mask of ones, both int64 of shape (N, 32).

    Source: `pydoc_data.topics` of the Python standard library; its text, and so the digest, changes with
    Python's version.
    """
    blocks: dict[str, list[tuple[list[str], int]]] = {"train": [], "evaluation": []}
    for label, topic in enumerate(TOPICS):
        words = re.findall(r"[a-z_]+", _manual()[topic].lower())
        for index, begin in enumerate(range(0, len(words), _BLOCK_WORDS)):
            split = "evaluation" if index % _BLOCKS_PER_EVALUATION == _BLOCKS_PER_EVALUATION - 1 else "train"
            blocks[split].append((words[begin : begin + _BLOCK_WORDS], label))
    counts = Counter(word for words, _ in blocks["train"] for word in words)
    # Ordered by count, then by the word, so that equal counts do not depend on the order of reading.
    known = sorted(counts, key=lambda word: (-counts[word], word))[: WORDS - 1]
    tokens = {word: index + 1 for index, word in enumerate(known)}
    parts: dict[str, list[tuple[Tensor, int]]] = {"train": [], "evaluation": []}
    for split, step in (("train", _SNIPPET_STEP), ("evaluation", _SNIPPET_WORDS)):
        for words, label in blocks[split]:
            text = torch.tensor([tokens.get(word, 0) for word in words])
            parts[split] += [
                (text[begin : begin + _SNIPPET_WORDS], label)
                for begin in range(0, len(text) - _SNIPPET_WORDS + 1, step)
            ]

    def samples(name: str) -> Samples:
        tokens_NL = torch.stack([text for text, _ in parts[name]])
        return Samples((tokens_NL, torch.ones_like(tokens_NL)), torch.tensor([label for _, label in parts[name]]))

    return Splits(samples("train"), samples("evaluation"), TOPICS, TEXT_CLASSIFICATION)


def prose() -> Splits:
    """Return real text to continue: all of Python's manual in pieces of 64 characters, every tenth for evaluation.

    Source: as `topics`.
    """
    tokens = torch.cat([_tokens(text) for _, text in sorted(_manual().items())])
    pieces = tokens[: len(tokens) // _CONTEXT_TOKENS * _CONTEXT_TOKENS].view(-1, _CONTEXT_TOKENS)
    held_out = torch.arange(len(pieces)) % 10 == 9
    return Splits(
        Samples((pieces[~held_out],), pieces[~held_out]),
        Samples((pieces[held_out],), pieces[held_out]),
        (),
        CAUSAL_LANGUAGE_MODELING,
    )


BUILTIN: dict[str, Callable[[], Splits]] = {
    "digits": digits,
    "shapes100": shapes100,
    "topics": topics,
    "prose": prose,
}


def _manual() -> dict[str, str]:
    from pydoc_data import topics as manual

    return manual.topics


def _tokens(text: str) -> Tensor:
    return torch.tensor(list(text.encode("ascii", "replace")), dtype=torch.int64)
