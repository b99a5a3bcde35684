"""What a recipe says about its data."""

import dataclasses

from ctr_tf.errors import UserError


@dataclasses.dataclass
class DataConfig:
    """The data of a run and how they become batches.

    Args:
        path: folder of the prepared data set (`ctr-tf prepare`).
        batch_size: samples (slates) of the global batch, over all workers.
        history_lengths: sizes that histories are padded to, ascending; a batch holds
            histories of one size, and a history longer than the largest is cut to its
            latest behaviors. Empty: the schema's `history_length`, and a shorter one
            where many are short, see `ctr_tf.data.dataset.history_lengths`.
        slate_sizes: sizes that slates are padded to, ascending. The largest must hold
            every slate of the data: candidates are never dropped. Empty: chosen by the
            training's slates, up to three sizes, see `ctr_tf.data.dataset.slate_sizes`.
        streams: that the training's samples are cut into. Each worker reads its own,
            and global batches are the same for any number of workers that divides it.
            It must divide `batch_size`. None: the largest such number up to 64; see
            `ctr_tf.data.order`.
        shuffle_buffer: samples shuffled among each other, in training, over all
            workers.
        label: the schema's label to train on; its first one where None.
        train_share: share of the training samples that is read, the same ones in every
            epoch and run; see `ctr_tf.data.share`.
    """

    path: str = ""
    batch_size: int = 64
    history_lengths: tuple[int, ...] = ()
    slate_sizes: tuple[int, ...] = ()
    streams: int | None = None
    shuffle_buffer: int = 8_192
    label: str | None = None
    train_share: float = 1.0

    def longest_history(self, history_length: int) -> int:
        """N of the longest histories, of a schema's `history_length`."""
        return self.history_lengths[-1] if self.history_lengths else history_length

    def __post_init__(self) -> None:
        for name in ("batch_size", "shuffle_buffer"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise UserError(
                    f"`data.{name}` must be a positive integer. Received: {value!r}"
                )
        streams = 1 if self.streams is None else self.streams
        if type(streams) is not int or streams < 1 or self.batch_size % streams:
            raise UserError(
                "`data.streams` must be a positive integer that divides "
                f"`data.batch_size`, {self.batch_size}. Received: {streams!r}"
            )
        if not 0 < self.train_share <= 1:
            raise UserError(
                "`data.train_share` must be above 0 and at most 1. "
                f"Received: {self.train_share!r}"
            )
        for name in ("history_lengths", "slate_sizes"):
            sizes = getattr(self, name)
            if not isinstance(sizes, list | tuple) or any(
                type(size) is not int or size < 1 for size in sizes
            ):
                raise UserError(
                    f"`data.{name}` must be a list of positive integers. "
                    f"Received: {sizes!r}"
                )
            if any(a >= b for a, b in zip(sizes, sizes[1:], strict=False)):
                raise UserError(
                    f"`data.{name}` must be ascending. Received: {list(sizes)}"
                )
            setattr(self, name, tuple(sizes))
