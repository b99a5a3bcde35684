"""What stands around the texts of items, as tokens of a language model."""

import dataclasses
from collections.abc import Sequence

from ctr_tf.errors import UserError
from ctr_tf.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class Prompts:
    """Token ids of all that is no text of an item.

    Args:
        histories: before the behaviors, of each text of the user.
        candidates: before the text, of each text of a candidate.
        separator: between two behaviors.
        sink: of the token at whose place a sink stands; None: there are no sinks.
        first: at the beginning of every text, such as ``[CLS]``.
        last: at the end of every text, such as ``[SEP]``.
        num_tokens: entries of the tokenizer's vocabulary.
    """

    histories: tuple[tuple[int, ...], ...]
    candidates: tuple[tuple[int, ...], ...]
    separator: tuple[int, ...]
    sink: int | None
    first: tuple[int, ...]
    last: tuple[int, ...]
    num_tokens: int


def make_prompts(
    tokenizer: Tokenizer,
    histories: Sequence[str],
    candidates: Sequence[str],
    separator: str,
    sink: str | None,
    has_ends: bool,
) -> Prompts:
    """Tokenizes prompts; an empty one is no token.

    Args:
        tokenizer: of the language model.
        histories: before each text of the user.
        candidates: before each text of a candidate.
        separator: between two behaviors.
        sink: an entry of the vocabulary; None: there are no sinks.
        has_ends: whether texts stand between the tokens that the tokenizer puts around
            them.

    Raises:
        UserError: if the tokenizer has no such entry.
    """
    first, last = tokenizer.ends() if has_ends else ((), ())
    try:
        sink_id = None if sink is None else tokenizer.id_of(sink)
    except UserError as error:
        raise UserError(
            f"`sink_token` is an entry of the tokenizer that no text has. {error}"
        ) from error

    def ids(texts):
        return tuple(map(tuple, tokenizer.ids(list(texts))))

    return Prompts(
        histories=ids(histories),
        candidates=ids(candidates),
        separator=ids([separator])[0],
        sink=sink_id,
        first=first,
        last=last,
        num_tokens=tokenizer.num_tokens,
    )
