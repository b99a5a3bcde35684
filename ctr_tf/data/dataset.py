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
* `labels`: float32 `[B, C, T]`, that of `DataConfig.label`, then those of `tasks`.
* `weights`: float32 `[B, C]`; 1 on candidates, 0 on padding.
* with `metadata`, fourth: `request_id`, `user_id` string `[B]`, `request_time`,
  `history_length` int64 `[B]` (before cutting) and `true_probability` float32
  `[B, C]`, NaN where unknown, which it is for all labels but the schema's first.

N is static where `history_lengths` has one size, and C where `slate_sizes` has one;
else they are None in the dataset's spec, and concrete in every batch.

Training is one endless stream of whole batches. Each epoch shuffles anew, by
`seed + epoch` and nothing else: files are read interleaved in a shuffled order, and
samples shuffled in blocks of `shuffle_buffer`. What does not fill a batch at the end
of an epoch begins a batch of the next one, so no sample is ever lost. `skip_batches`
continues the stream where it was left, to the sample. Evaluation is one pass in the
order of the files, and ends with batches that may be smaller. Of the split `train`,
only `DataConfig.train_share` is read.

Workers that train together read the same stream and each parses its share of every
global batch: samples `shard_index`, `shard_index + num_shards`, … of it.
"""

import itertools
from pathlib import Path

import tensorflow as tf

from ctr_tf.data.batches import BatchReader
from ctr_tf.data.config import DataConfig
from ctr_tf.data.prepared import PreparedData
from ctr_tf.data.reading import record_dataset, untuned
from ctr_tf.data.share import count_in_share, in_share
from ctr_tf.data.text_inputs import TextInputs
from ctr_tf.errors import UserError

_no_autograph = tf.autograph.experimental.do_not_convert
_OPEN_FILES = 16
_BLOCK = 16  # records read from a file before the next one's turn
_LENGTHS_BLOCK = 256  # records whose lengths are parsed together
_WORTH_IT = 2 / 3  # of the places of one size; each size is traced and compiled
_ROUND = 16  # behaviors; a history's size is a multiple of it
_READY_BATCHES = 4  # that wait for their consumer at most


def num_samples(
    folder: str | Path | PreparedData, split: str, config: DataConfig
) -> int:
    """Samples of a split that are read: of `train` the config's share."""
    samples = _open(folder).num_samples(split)
    return count_in_share(samples, _share(split, config))


def steps_per_epoch(
    folder: str | Path | PreparedData, split: str, config: DataConfig
) -> int:
    """Whole global batches in one pass over what is read of a split, at least 1."""
    return max(num_samples(folder, split, config) // config.batch_size, 1)


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
    skip_batches: int = 0,
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
        skip_batches: global batches to leave out at the start.
        num_shards: workers that share each global batch.
        shard_index: of this worker.

    Raises:
        UserError: if the split has no samples, the sizes do not hold the data, or the
            batch size cannot be shared evenly.
        FileNotFoundError: names what is missing of the data set.
    """
    if training and config.batch_size % num_shards:
        raise UserError(
            f"`data.batch_size` must be a multiple of the {num_shards} workers. "
            f"Received: {config.batch_size}"
        )
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
        metadata=metadata,
        id_maps=data.id_maps,
        texts=texts or TextInputs(),
    )
    blocks = _blocks(data, split, config, training, seed)
    if len(histories) == len(slates) == 1:
        batches = blocks.rebatch(config.batch_size, drop_remainder=training)
        bucket = tf.data.Dataset.from_tensors(tf.constant(0, tf.int64)).repeat()
        batches = tf.data.Dataset.zip(bucket, batches)
    else:
        batches = _bucketed(blocks, reader, histories, slates, config, training)

    @_no_autograph
    def read(bucket, serialized):
        share = serialized[shard_index::num_shards]
        return reader.read(
            share,
            _size(histories, bucket // len(slates)),
            _size(slates, bucket % len(slates)),
        )

    batches = batches.skip(skip_batches).map(read, tf.data.AUTOTUNE)
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


def _share(split: str, config: DataConfig) -> float:
    return config.train_share if split == "train" else 1.0


def _size(sizes: tuple[int, ...], index: tf.Tensor) -> int | tf.Tensor:
    return sizes[0] if len(sizes) == 1 else tf.gather(sizes, index)


def _blocks(
    data: PreparedData, split: str, config: DataConfig, training: bool, seed: int
) -> tf.data.Dataset:
    """Blocks of serialized samples, shuffled in training."""
    files = data.files(split)
    starts = itertools.accumulate(data.samples_by_file(split), initial=0)
    # Shuffled are places in the list of files, whatever is known of a file beside.
    files_F, starts_F = tf.constant(files), tf.constant(list(starts)[:-1], tf.int64)
    share = _share(split, config)

    @_no_autograph
    def read_file(place):
        records = record_dataset(files_F[place], data.compression)
        if share == 1:
            return records
        numbered = records.enumerate(starts_F[place])
        mine = numbered.filter(lambda number, _: in_share(number, share))
        return mine.map(lambda _, record: record)

    if not training:
        records = tf.data.Dataset.range(len(files)).flat_map(read_file)
        return records.batch(min(config.batch_size, _LENGTHS_BLOCK))

    @_no_autograph
    def epoch_blocks(epoch):
        # Stateless, so that neither the global seed nor the past has a say.
        shuffle = tf.random.experimental.stateless_shuffle
        places_F = tf.range(len(files))
        order = shuffle(places_F, seed=tf.stack([seed + epoch, -1]))
        records = tf.data.Dataset.from_tensor_slices(order).interleave(
            read_file,
            cycle_length=min(len(files), _OPEN_FILES),
            block_length=_BLOCK,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        blocks = records.batch(config.shuffle_buffer).enumerate()
        return blocks.map(
            lambda index, block: shuffle(block, seed=tf.stack([seed + epoch, index]))
        )

    return tf.data.Dataset.counter().flat_map(epoch_blocks)


def _bucketed(
    blocks: tf.data.Dataset,
    reader: BatchReader,
    histories: tuple[int, ...],
    slates: tuple[int, ...],
    config: DataConfig,
    training: bool,
) -> tf.data.Dataset:
    """`(bucket, samples)` batches; each bucket has its own history and slate size."""

    def smallest(sizes, lengths):
        fits = tf.searchsorted(tf.constant(sizes, tf.int64), lengths)
        return tf.cast(tf.minimum(fits, len(sizes) - 1), tf.int64)

    @_no_autograph
    def with_bucket(block):
        behaviors, candidates = reader.lengths(block)
        history = smallest(histories, behaviors)
        return history * len(slates) + smallest(slates, candidates), block

    @_no_autograph
    def batch(bucket, window):
        samples = window.map(lambda _, sample: sample)
        samples = samples.batch(config.batch_size, drop_remainder=training)
        return samples.map(lambda batch: (bucket, batch))

    samples = blocks.map(with_bucket, tf.data.AUTOTUNE).unbatch()
    return samples.group_by_window(
        lambda bucket, _: bucket, batch, window_size=config.batch_size
    )
