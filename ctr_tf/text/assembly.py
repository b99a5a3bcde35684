"""Texts of items → one sequence of tokens for a language model, in the graph.

Shape suffixes: `B` batch, `N` behaviors, `T` tokens of an item's text, `P` pieces of a
behavior (its text, its sink, the separator), `X` places before the gaps are closed, `L`
tokens of the sequence.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from keras import ops

from ctr_tf.errors import UserError
from ctr_tf.schema import PADDING_ID
from ctr_tf.tensors import Tensor


@dataclasses.dataclass(frozen=True)
class AssembledText:
    """Sequences of one length, and where their sinks stand.

    Args:
        tokens: `[B, L]` int32, 0 behind the end; L is that of the assembly, or less
            where all that N behaviors may have to say is shorter.
        mask: `[B, L]` bool, True on tokens.
        sink_place: `[B, N]` int32, the place of the sink on the right of each behavior,
            -1 where it has none.
        behavior: `[B, L]` int32, whose text a token is of: a place among the behaviors,
            -1 for what is of none.
    """

    tokens: Tensor
    mask: Tensor
    sink_place: Tensor
    behavior: Tensor


class TextAssembly:
    """``FIRST PROMPT b_1 SINK , b_2 SINK , … b_n LAST``, at most L tokens long.

    Between two behaviors stands the sink, where there is one, and then the separator:
    the newest behavior has neither. Of histories that are too long whole behaviors are
    left out, the oldest first. A behavior without a text (padding, an item that is not
    in the table, or one whose text is missing) is left out with its sink.

    With a single behavior, `[B, 1]`, this is the text of a candidate.

    Nothing is learned here, and no shape depends on a value, so XLA compiles it: every
    token has its place among N (T + P) ones, some of them gaps, and one sort of
    distinct numbers brings those that count to the front.

    Args:
        length: L.
        prompt: token ids before the behaviors.
        separator: token ids between two behaviors.
        sink: id of the token that stands before each separator; None: no sinks.
        first: token ids of the encoder's own before everything, such as ``[CLS]``.
        last: those behind everything, such as ``[SEP]``.

    Raises:
        UserError: if nothing fits beside what always stands there.
    """

    def __init__(
        self,
        length: int,
        prompt: Sequence[int] = (),
        separator: Sequence[int] = (),
        sink: int | None = None,
        first: Sequence[int] = (),
        last: Sequence[int] = (),
    ):
        self.length = length
        self._head = np.array([*first, *prompt], np.int32)
        self._between = np.array(
            [*(() if sink is None else (sink,)), *separator], np.int32
        )
        self._has_sink = sink is not None
        self._last = np.array(last, np.int32)
        self.budget = length - len(self._head) - len(self._last)
        if self.budget < 1:
            raise UserError(
                f"`length` must leave room for texts beside {length - self.budget} "
                f"tokens that always stand there. Received: length={length}"
            )

    def __call__(self, texts: Tensor) -> AssembledText:
        """Assembles the texts of a batch.

        Args:
            texts: `[B, N, T]` int, the tokens of the behaviors, oldest first, 0 behind
                the end of each; N and T static.

        Returns:
            The sequences.

        Raises:
            UserError: if the text of one item may be longer than the budget.
        """
        texts_BNT = ops.cast(texts, "int32")
        width = texts_BNT.shape[2]
        if width > self.budget:
            raise UserError(
                f"`length` must leave room for a text of {width} tokens "
                f"beside {self.length - self.budget} that always stand there. "
                f"Received: length={self.length}"
            )
        places_T = np.arange(1, width + 1, dtype=np.int32)
        length_BN = ops.max(
            ops.where(texts_BNT != PADDING_ID, places_T, 0), axis=-1, initial=0
        )
        kept_BN = self._kept(length_BN)
        has_next_BN = _after(kept_BN) > 0
        tokens_BX, known_BX, owner_X = self._pieces(
            texts_BNT, length_BN, kept_BN, has_next_BN
        )
        order_BL, count_B = self._close_gaps(known_BX)
        tokens_BL = ops.take_along_axis(tokens_BX, order_BL, axis=1)
        mask_BL = np.arange(tokens_BL.shape[1]) < count_B[:, None]
        sink_mask_BN = has_next_BN & kept_BN
        if not self._has_sink:
            sink_mask_BN = ops.zeros_like(sink_mask_BN)
        # The sink follows everything before its behavior, and the behavior's own text.
        cost_BN = ops.where(kept_BN, length_BN + len(self._between), 0)
        place_BN = len(self._head) + ops.cumsum(cost_BN, axis=1) - len(self._between)
        return AssembledText(
            tokens=ops.where(mask_BL, tokens_BL, PADDING_ID),
            mask=mask_BL,
            sink_place=ops.where(sink_mask_BN, place_BN, -1),
            behavior=ops.where(mask_BL, ops.take(owner_X, order_BL), -1),
        )

    def _kept(self, length_BN: Tensor) -> Tensor:
        """The newest behaviors whose texts fit, with what stands between them."""
        present_BN = length_BN > 0
        between = len(self._between)
        cost_BN = ops.where(present_BN, length_BN + between, 0)
        # Of each behavior and all newer ones; the newest has nothing behind it.
        total_BN = _after(cost_BN) + cost_BN - between
        return present_BN & (total_BN <= self.budget)

    def _pieces(
        self, texts_BNT: Tensor, length_BN: Tensor, kept_BN: Tensor, has_next_BN: Tensor
    ) -> tuple[Tensor, Tensor, np.ndarray]:
        """`[B, X]`: all that may stand in a sequence, in order; and what does.

        And `[X]`, whose text that is, -1 for nobody's.
        """
        (batch, behaviors, width), between = ops.shape(texts_BNT), len(self._between)
        places_T = np.arange(width, dtype=np.int32)
        text_BNT = (places_T < length_BN[..., None]) & kept_BN[..., None]
        next_BN1 = (kept_BN & has_next_BN)[..., None]
        next_BNP = ops.broadcast_to(next_BN1, (batch, behaviors, between))
        between_BNP = ops.broadcast_to(self._between, (batch, behaviors, between))

        def between_ends(text, between, first, last):
            flat = (batch, behaviors * (text.shape[2] + between.shape[2]))
            pieces = ops.reshape(ops.concatenate([text, between], axis=-1), flat)
            ends = (ops.broadcast_to(end, (batch, len(end))) for end in (first, last))
            return ops.concatenate([next(ends), pieces, next(ends)], axis=1)

        always = (np.ones(len(end), bool) for end in (self._head, self._last))
        owner_NX = np.full((behaviors, width + between), -1, np.int32)
        owner_NX[:, :width] = np.arange(behaviors)[:, None]
        ends = (np.full(len(end), -1, np.int32) for end in (self._head, self._last))
        return (
            between_ends(texts_BNT, between_BNP, self._head, self._last),
            between_ends(text_BNT, next_BNP, *always),
            np.concatenate([next(ends), owner_NX.ravel(), next(ends)]),
        )

    def _close_gaps(self, known_BX: Tensor) -> tuple[Tensor, Tensor]:
        """Places, `[B, min(L, X)]`, without gaps; and how many count, `[B]`."""
        places_X = np.arange(known_BX.shape[1], dtype=np.int32)
        # Distinct, so that every backend sorts them alike.
        key_BX = ops.where(known_BX, places_X, places_X + len(places_X))
        order_BL = ops.argsort(key_BX, axis=1)[:, : self.length]
        return order_BL, ops.sum(ops.cast(known_BX, "int32"), axis=1)


def _after(values_BN: Tensor) -> Tensor:
    """The sum of all that stand on the right of each place, int32."""
    values_BN = ops.cast(values_BN, "int32")
    return ops.sum(values_BN, axis=1, keepdims=True) - ops.cumsum(values_BN, axis=1)
