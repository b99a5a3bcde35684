"""A small language model for the world's titles, to be trained from scratch.

A folder as Hugging Face lays it out, without weights: `tokenizer.json`, whose
vocabulary are the words of the titles, one token each, and what stands between titles;
and `config.json`, a BERT of 4 layers.
"""

import json
from pathlib import Path

from ctr_tf.layers.text.lm_config import LM_CONFIG
from ctr_tf.synthetic.fresh_titles.words import TOPICS
from ctr_tf.text.tokenizer import TOKENIZER

MARKS = ("[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", ",", ":")  # ids from 0 on
VOCABULARY = (*MARKS, *(word for words in TOPICS.values() for word in words))

CONFIG = {
    "model_type": "bert",
    "vocab_size": len(VOCABULARY),
    "hidden_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    # Nothing to learn by heart: every user comes once.
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


def write_language_model(folder: Path) -> None:
    """Makes the folder, with `tokenizer.json` and `config.json`.

    Args:
        folder: to make.
    """
    folder.mkdir()
    (folder / TOKENIZER).write_text(_tokenizer(), "utf-8")
    (folder / LM_CONFIG).write_text(json.dumps(CONFIG, indent=2) + "\n", "utf-8")


def _tokenizer() -> str:
    import tokenizers  # whoever makes another world needs none
    from tokenizers import models, normalizers, pre_tokenizers

    ids = {word: number for number, word in enumerate(VOCABULARY)}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(ids, "[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer.to_str(pretty=True)
