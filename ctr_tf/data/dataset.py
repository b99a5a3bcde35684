"""Batches of a prepared data set, by tf.data: batch first, then parse.

A batch is `(inputs, labels, weights)`; shape suffixes `B` batch, `N` behaviors, `C`
candidates, `L` a feature's length:

* `inputs`: `request_time` int64 `[B]`; `user_<f>`, `context_<f>` `[B, L]`;
  `behavior_time` int64, `behavior_<f>`, `behavior_chunk` int32, all `[B, N]`, padded
  with 0 on the left, oldest first; `candidate_<f>` `[B, C]`, padded with 0 on the
  right; `candidate_mask` bool `[B, C]`. Embedded features are int64 ids, numeric ones
  float32. Texts are rows of their tables, or, as `texts` says, tokens: int32
  `[B, N, T]` and `[B, C, T]`, 0 behind the end of a text; `item_vectors…`
  `[B, C, V, W]` is what a model has read of candidates.
  In training also `position_<f>` `[B, C]`, where candidates were shown.
* `labels`: float32 `[B, C, T]`, that of `DataConfig.label`, then those of `tasks`.
* `weights`: float32 `[B, C]`; 1 on candidates, 0 on padding.
* with `metadata`, fourth: `request_id`, `user_id` string `[B]`, `request_time`,
  `history_length` int64 `[B]` (before cutting) and `true_probability` float32
  `[B, C]`, NaN where unknown, which it is for all labels but the schema's first.

N is static where `history_lengths` has one size, and C where `slate_sizes` has one;
else they are None in the dataset's spec, and concrete in every batch.

Training is endless, in whole batches, in the order of `ctr_tf.data.order`: shuffled
anew in every epoch by `seed` and nothing else, without loss at an epoch's end, and
`first_step` begins anywhere in it, to the sample, at once. Evaluation is one pass in
the order of the files, and ends with a batch that may be smaller; where there are
several sizes, samples of a size stand together within `shuffle_buffer` of them. Of the
split `train`, only `DataConfig.train_share` is read.

Each of the workers that train together reads its own samples and no others: in training
those of its streams, its share of every global batch; in evaluation a
contiguous part of the split, and the last batch of some may be empty.

Samples are read a group (`ctr_tf.data.order`) at once, by their places in the files
(`ctr_tf.data.stored`). While the batches of one are taken, the next is read; so memory
holds at most three groups, each of `shuffle_buffer / num_shards` samples, besides the
batches that are ready.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from ctr_tf.data.batches import BatchReader
from ctr_tf.data.config import DataConfig
from ctr_tf.data.order import Order, PassOrder, TrainingOrder
from ctr_tf.data.prepared import PreparedData
from ctr_tf.data.reading import untuned
from ctr_tf.data.share import Share
from ctr_tf.data.sizes import PaddedSizes
from ctr_tf.data.stored import SampleSizes, StoredSamples
from ctr_tf.data.text_inputs import TextInputs
from ctr_tf.errors import UserError

_no_autograph = tf.autograph.experimental.do_not_convert
_USUAL_STREAMS = 64  # at most
_WORTH_IT = 2 / 3  # of the places of one size; each size is traced and compiled
_ROUND = 16  # behaviors; a history's size is a multiple of it
_READY_BATCHES = 4  # that wait for their consumer at most


def num_samples(
    folder: str | Path | PreparedData, split: str, config: DataConfig
) -> int:
    """Samples of a split that are read: of `train` the config's share."""
    samples = _open(folder).num_samples(split)
    return int(_share(split, config).count(samples))


def steps_per_epoch(
    folder: str | Path | PreparedData, split: str, config: DataConfig
) -> int:
    """Whole global batches in one pass over what is read of a split, at least 1."""
    return max(num_samples(folder, split, config) // config.batch_size, 1)


def num_streams(samples: int, config: DataConfig) -> int:
    """Streams that a training's samples are cut into, S of `ctr_tf.data.order`.

    Where the recipe says nothing: the largest divisor of the batch size up to 64.

    Args:
        samples: of the training, those that are read.
        config: of it.

    Raises:
        UserError: if there are fewer samples than streams.
    """
    if config.streams is None:
        most = min(_USUAL_STREAMS, samples)
        return next(s for s in range(most, 0, -1) if config.batch_size % s == 0)
    if config.streams > samples:
        raise UserError(
            f"`data.streams` must be at most the training's {samples:,} samples. "
            f"Received: {config.streams}"
        )
    return config.streams


def history_lengths(data: PreparedData, config: DataConfig) -> tuple[int, ...]:
    """The sizes that histories are padded to, ascending.

    Where the recipe says nothing: the longest of the schema; and a shorter one that
    holds half of the training's, if that saves a third of the places.

    Raises:
        UserError: if one is longer than what samples hold.
    """
    longest = data.schema.history_length
    if config.history_lengths:
        if config.history_lengths[-1] > longest:
            raise UserError(
                f"The samples hold {longest} behaviors at most, the schema's "
                "`history_length`: prepare them with a longer one. "
                f"Received: data.history_lengths={list(config.history_lengths)}"
            )
        return config.history_lengths
    half = data.quantiles("history_length").get("0.5", longest)
    half = min(-(-max(half, 1) // _ROUND) * _ROUND, longest)
    if half + longest > 2 * _WORTH_IT * longest:
        return (longest,)
    return half, longest


def slate_sizes(data: PreparedData, config: DataConfig) -> tuple[int, ...]:
    """The sizes that slates are padded to, ascending.

    Where the recipe says nothing: half and nine tenths of the training's slates fit
    into the first two, if that saves a third of the places, and else the largest fits
    all.

    Raises:
        UserError: if the configured ones cannot hold every slate of the data.
    """
    largest = data.max_candidates()
    sizes = config.slate_sizes or _usual_sizes(data, largest)
    if sizes[-1] < largest:
        raise UserError(
            f"`data.slate_sizes` must hold the data's largest slate, {largest} "
            f"candidates: none is ever dropped. Received: {list(sizes)}"
        )
    return sizes


def _usual_sizes(data: PreparedData, largest: int) -> tuple[int, ...]:
    quantiles = data.quantiles("slate_size")
    if not quantiles:
        return (largest,)
    half, most = (min(quantiles[q], largest) for q in ("0.5", "0.9"))
    places = 0.5 * half + 0.4 * most + 0.1 * largest
    if places > _WORTH_IT * largest:
        return (largest,)
    return tuple(sorted({half, most, largest}))


def dataset(
    folder: str | Path | PreparedData,
    split: str,
    config: DataConfig,
    *,
    num_chunks: int,
    training: bool,
    tasks: tuple[str, ...] = (),
    seed: int = 0,
    metadata: bool = False,
    texts: TextInputs | None = None,
    share: float = 1.0,
    first_step: int = 0,
    num_shards: int = 1,
    shard_index: int = 0,
) -> tf.data.Dataset:
    """Batches of one split; see the module for what they hold and in which order.

    Args:
        folder: of the prepared data set, or the set itself.
        split: `"train"`, `"validation"` or `"test"`.
        config: batch size and padding.
        num_chunks: P of the model; chunks are cut anew where the records' differ.
        training: an endless, shuffled stream; else one pass.
        tasks: further labels to read, the model's.
        seed: of the shuffling.
        metadata: whether batches have the fourth element.
        texts: what the model takes of texts (`ctr_tf.text.item_vectors`); None: rows.
        share: of the samples; the others are not read. See `ctr_tf.data.share`.
        first_step: the global batch to begin with.
        num_shards: workers that share each global batch.
        shard_index: of this worker.

    Raises:
        UserError: if the split has no samples, the sizes do not hold the data, or the
            streams, or batches of an evaluation, cannot be shared evenly.
        FileNotFoundError: names what is missing of the data set.
    """
    if not 0 <= shard_index < num_shards:
        raise UserError(
            f"`shard_index` lies between 0 and num_shards - 1 = {num_shards - 1}. "
            f"Received: {shard_index}"
        )
    data = _open(folder)
    histories, slates = history_lengths(data, config), slate_sizes(data, config)
    reader = BatchReader(
        data.schema,
        num_chunks,
        histories[-1],
        config.label,
        tasks,
        positions=training,
        metadata=metadata,
        id_maps=data.id_maps,
        texts=texts or TextInputs(),
    )
    stored = StoredSamples(data, split)
    kept = _share(split, config, share)
    order = _order(
        stored.samples, kept, config, training, seed, num_shards, shard_index
    )
    sizes = PaddedSizes(histories, slates)
    groups = tf.data.Dataset.from_generator(
        lambda: _groups(stored, order, sizes, first_step),
        output_signature=(
            tf.TensorSpec([None], tf.string),
            SampleSizes(*[tf.TensorSpec([None], tf.int64)] * 2),
            tf.TensorSpec([None], tf.int64),
            (tf.TensorSpec([None], tf.int64),) * 2,
        ),
    )

    @_no_autograph
    def batches_of(samples, lengths, counts, padded):
        @_no_autograph
        def batch(start, count, history, slate):
            mine = slice(start, start + count)
            counted = tf.nest.map_structure(lambda own: own[mine], lengths)
            return samples[mine], counted, history, slate

        starts = tf.cumsum(counts, exclusive=True)
        return tf.data.Dataset.from_tensor_slices((starts, counts, *padded)).map(batch)

    @_no_autograph
    def read(serialized, counted, history, slate):
        return reader.read(serialized, *sizes.static(history, slate), counted)

    batches = groups.prefetch(1).flat_map(batches_of).map(read, tf.data.AUTOTUNE)
    options = tf.data.Options()
    options.deterministic = True
    # Every worker already reads its own share.
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.OFF
    )
    return untuned(batches.with_options(options).prefetch(_READY_BATCHES))


def empty_history(
    data: PreparedData,
    config: DataConfig,
    *,
    num_chunks: int,
    texts: TextInputs | None = None,
) -> dict[str, tf.Tensor]:
    """The inputs of behaviors of a user without any, as batches of `dataset` have them.

    Args:
        data: the prepared data set.
        config: whose shortest history is N.
        num_chunks: see `dataset`.
        texts: see `dataset`.

    Returns:
        Input key → `[1, N]`, tokens `[1, N, T]`.
    """
    histories = history_lengths(data, config)
    reader = BatchReader(
        data.schema, num_chunks, histories[-1], texts=texts or TextInputs()
    )
    return reader.empty_history(histories[0])


def _open(folder: str | Path | PreparedData) -> PreparedData:
    return folder if isinstance(folder, PreparedData) else PreparedData.load(folder)


def _share(split: str, config: DataConfig, share: float = 1.0) -> Share:
    return Share(share * (config.train_share if split == "train" else 1.0))


def _order(
    samples: list[int],
    kept: Share,
    config: DataConfig,
    training: bool,
    seed: int,
    workers: int,
    worker: int,
) -> Order:
    total = int(kept.count(sum(samples)))
    if not training:
        if config.batch_size % workers:
            raise UserError(
                f"`data.batch_size` must be a multiple of the {workers} workers. "
                f"Received: {config.batch_size}"
            )
        return PassOrder(
            total, kept, config.batch_size, config.shuffle_buffer, worker, workers
        )
    streams = num_streams(total, config)
    if streams % workers:
        raise UserError(
            f"`data.streams` must be a multiple of the {workers} workers that divides "
            f"`data.batch_size`, {config.batch_size}: set it, and the batch size if "
            f"need be. Received: data.streams={streams}"
        )
    of_worker = streams // workers
    return TrainingOrder(
        samples,
        kept,
        config.batch_size,
        streams,
        config.shuffle_buffer,
        seed,
        range(worker * of_worker, (worker + 1) * of_worker),
    )


def _groups(
    stored: StoredSamples, order: Order, sizes: PaddedSizes, first_step: int
) -> Iterator[tuple]:
    """Groups: samples, their sizes, those of each batch, and what it is padded to."""
    for begin, end in order.groups(first_step):
        numbers = order.numbers(begin, end)
        buckets = np.zeros(len(numbers), np.int64)
        if sizes.several:
            buckets = sizes.buckets(stored.sizes(numbers))
        batches = order.batches(begin, end, buckets)[max(first_step - begin, 0) :]
        counts = np.array([len(batch) for batch in batches], np.int64)
        wanted, places = np.unique(np.concatenate(batches), return_inverse=True)
        mine = numbers[wanted]  # side by side as they are stored
        found = SampleSizes(*(own[places] for own in stored.sizes(mine)))
        padded = sizes.of_batches(found, counts)
        yield stored.read(mine)[places], found, counts, padded
