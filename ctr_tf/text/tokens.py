"""From what a batch or a request has of a text to its tokens.

Shape suffixes: `B` batch, `N` behaviors or candidates, `T` tokens of an item's text.
"""

from keras import ops

from ctr_tf.tensors import Tensor


def text_tokens(texts: Tensor, table: Tensor) -> Tensor:
    """The tokens of items, wherever a model gets its batch from.

    Args:
        texts: of a text feature: rows of the table, `[B, N]`, as data sets have them,
            or tokens `[B, N, T]`, as an export finds them by item ids.
        table: `[rows, T]` token ids (`ctr_tf.schema.texts`), of the data that the rows
            are from.

    Returns:
        `[B, N, T]` int32, 0 behind the end of a text.
    """
    if len(texts.shape) == 2:
        texts = ops.take(table, texts, axis=0)
    return ops.cast(texts, "int32")
