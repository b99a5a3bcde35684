"""A language model's own tokenizer, from its `tokenizer.json`."""

from collections.abc import Iterable, Sequence
from typing import Any

from ctr_tf.errors import UserError

TOKENIZER = "tokenizer.json"


class Tokenizer:
    """Texts → token ids, without special tokens, cuts or padding.

    Whatever the file says of those is left aside: where the first and the last token of
    a text stand, and how long it may be, is the business of whoever joins texts.

    Args:
        text: of a `tokenizer.json`, as Hugging Face's `tokenizers` writes it.
        source: where it came from, for error messages.

    Raises:
        UserError: if it is none.
    """

    def __init__(self, text: str, source: str = TOKENIZER):
        import tokenizers  # whoever reads no text needs none

        try:
            self._tokenizer: Any = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the library raises nothing narrower
            raise UserError(
                f"'{source}' must be a Hugging Face {TOKENIZER}. Received: {error}"
            ) from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of each text."""
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def ends(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What the file puts before and behind a text, such as ``[CLS]`` and ``[SEP]``.

        Raises:
            UserError: if it knows no word, so that nobody can tell.
        """
        encoding = self._tokenizer.encode("a", add_special_tokens=True)
        own = [
            i for i, special in enumerate(encoding.special_tokens_mask) if not special
        ]
        if not own:
            raise UserError("The tokenizer makes nothing of a word. Received: 'a'")
        first, last = encoding.ids[: own[0]], encoding.ids[own[-1] + 1 :]
        return tuple(first), tuple(last)

    @property
    def num_tokens(self) -> int:
        """Entries of the vocabulary, those beside the model's own included."""
        return self._tokenizer.get_vocab_size(with_added_tokens=True)

    def id_of(self, token: str) -> int:
        """The id of one entry of the tokenizer's vocabulary, such as ``[unused1]``.

        Raises:
            UserError: if it has no such entry.
        """
        token_id = self._tokenizer.token_to_id(token)
        if token_id is None:
            raise UserError(f"The tokenizer has no such token. Received: '{token}'")
        return token_id

    def token(self, token_id: int) -> str | None:
        """The vocabulary's entry with this id, None where it has none."""
        return self._tokenizer.id_to_token(token_id)

    def text(self, ids: Iterable[int]) -> str:
        """Token ids as people read them."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=False)
