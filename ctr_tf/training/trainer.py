"""Training and evaluation under Keras' `fit`: an objective, and the rankers it is of.

    rows       = rows of the batch, from the tables                  (no XLA)
    totals, logits, gradients of rows and network                    (XLA, if asked for)
    gradients  = sum over all replicas                               (no XLA)
    optimizer  updates the network, and the rows of the batch        (no XLA)

How tables are kept, how their gradients travel and how rows are updated is the work of
`ctr_tf.tables`; what is made small, that of `ctr_tf.losses`.
"""

import functools
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ctr_tf.data.latest import latest_behaviors
from ctr_tf.data.text_inputs import TextInputs
from ctr_tf.errors import UserError, unknown_name
from ctr_tf.layers.feature_embedding import ITEM_VECTORS, PROGRESS
from ctr_tf.losses.loss import MAIN
from ctr_tf.losses.outputs import Outputs
from ctr_tf.models.ranker import Ranker
from ctr_tf.schema.vocabulary import Vocabularies
from ctr_tf.tables.embedding_table import EmbeddingTable
from ctr_tf.text.item_vectors import text_inputs
from ctr_tf.training import distribution
from ctr_tf.training.metrics import DefinedMean, LogitAUC, request_auc
from ctr_tf.training.objective import Objective
from ctr_tf.training.optimizers import paired
from ctr_tf.training.preemption import Wishes
from ctr_tf.training.row_dropout import RowDropout
from ctr_tf.training.unknown_values import UnknownValues

_log = logging.getLogger(__name__)
_MOST_NAMES = 8  # of weights in one message


class Trainer(keras.Model):
    """Trains one ranker, or several on the same batches.

    Metrics are those of the first ranker: the objective as `loss`, each of its terms
    where there are several, `auc`, `gauc_request`, `auc_<task>` of further tasks; and
    `<name>_auc` of each further ranker; and what the first measures along the way
    (`Ranker.measured`).

    Batches are made for `num_chunks` and the longest history that a ranker takes; one
    that takes less sees its latest behaviors, in chunks of their own, as if no more
    had been kept.

    Args:
        objective: what is made small.
        rankers: built; one, or several by name, that which is trained for first. One
            whose `trainable` is False only puts out what the objective looks at.
        history_lengths: name of a ranker → how many behaviors it takes; all that a
            batch has, where it is not named.

    Attributes:
        learners: the rankers that learn, by name.
        tables: those of the learners, by name.
        num_chunks: P that batches must have been made for.
        wishes: of this worker, told to all others in every step.

    Raises:
        UserError: if they read batches differently, or a name is of something else.
    """

    def __init__(
        self,
        objective: Objective,
        rankers: Ranker | Mapping[str, Ranker],
        history_lengths: Mapping[str, int] | None = None,
    ):
        super().__init__()
        if isinstance(rankers, Ranker):
            rankers = {MAIN: rankers}
        self.objective = objective
        self.rankers = dict(rankers)
        self.learners = {n: ranker for n, ranker in rankers.items() if ranker.trainable}
        self.tables = _tables_of(self.learners)
        self._first = next(iter(rankers))
        self._history_lengths = dict(history_lengths or {})
        whole = [n for n in rankers if n not in self._history_lengths]
        self.num_chunks = rankers[whole[0] if whole else self._first].num_chunks
        self.ranker = rankers[self._first]
        _check_rankers(self.rankers)
        _check_terms(objective, self.rankers, self.ranker)
        self.input_seconds = 0.0
        self.wishes = Wishes()
        self._terms = {
            term.name: DefinedMean(term.name, dtype="float32")
            for term in objective.terms
        }
        self._aucs = [
            LogitAUC(name)
            for name in ("auc", *(f"auc_{task}" for task in self.ranker.tasks))
        ]
        self._measures = {
            name: DefinedMean(name, dtype="float32") for name in self.ranker.measured
        }
        self._ranking = DefinedMean("gauc_request", dtype="float32")
        self._other_aucs = {
            name: LogitAUC(f"{name}_auc") for name in rankers if name != self._first
        }
        self.built = True

    train_function: Callable | None  # Keras' own
    test_function: Callable | None

    def compile(
        self,
        optimizer: keras.optimizers.Optimizer,
        jit_compile: bool = False,
        row_dropout: RowDropout | None = None,
        unknown_values: UnknownValues | None = None,
        total_steps: int | None = None,
    ) -> None:
        """Prepares for training.

        Args:
            optimizer: of `make_optimizer`, with this trainer's `tables`.
            jit_compile: whether XLA compiles the dense computation; the tables are
                never part of it.
            row_dropout: what training does to embedding rows; None: nothing.
            unknown_values: what it does to ids; None: nothing.
            total_steps: of the training, for rankers whose `reads_progress` is True.

        Raises:
            UserError: if one reads the progress, and `total_steps` is not given.
        """
        if self.progress_readers and total_steps is None:
            raise UserError(
                "`total_steps` is what the progress of a training is a share of. "
                "Received: total_steps=None, rankers that read it: "
                f"{self.progress_readers}"
            )
        self._total_steps = total_steps
        network = {id(v): v for r in self.learners.values() for v in r.network}
        self._network = [v for v in network.values() if v.trainable]
        self._without_gradient: set[str] = set()
        optimizer.build(self._network)
        super().compile(optimizer, jit_compile=False, auto_scale_loss=False)
        self.store: Any = paired(optimizer).tables
        self._row_dropout = row_dropout
        self._unknown_values = unknown_values
        options = {"jit_compile": jit_compile, "autograph": False}
        self._compiled_gradients = tf.function(self._gradients, **options)
        self._compiled_forward = tf.function(self._forward, **options)

    @property
    def progress_readers(self) -> list[str]:
        """Names of the learners that read how far the training is."""
        return [n for n, ranker in self.learners.items() if ranker.reads_progress]

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Those that are kept from batch to batch."""
        others = self._other_aucs.values()
        kept = [*self._terms.values(), *self._measures.values(), *self._aucs]
        return [*kept, self._ranking, *others]

    def train_step(self, data: tuple) -> dict:
        """Trains on one replica's share of a global batch.

        Args:
            data: `(inputs, labels, weights)`; see `ctr_tf.data`.

        Returns:
            The metrics so far.
        """
        batch, labels, weights = data
        inputs = self._inputs(batch)
        lookups = self._lookups(inputs)
        if self._unknown_values is not None:
            lookups = {n: self._unknown(n, own) for n, own in lookups.items()}
        rows, looked_up = self._rows(lookups, inputs)
        if self._row_dropout is not None:
            rows |= {name: self._dropped(name, rows[name]) for name in lookups}
        counts = self.objective.counts(labels, weights)
        factors = self.objective.factors(
            _sum_over_replicas(counts), self.optimizer.iterations
        )
        factors = {n: self.optimizer.scale_loss(f) for n, f in factors.items()}
        seen = {name: self._with_progress(name, own) for name, own in inputs.items()}
        outputs, totals, (of_rows, of_network) = self._compiled_gradients(
            seen, rows, labels, weights, factors
        )
        of_tables = self.store.gradients(looked_up, _flat(of_rows))
        every = list(zip(of_network, self._network, strict=True))
        self._tell_without_gradient([v.path for grad, v in every if grad is None])
        pairs = [pair for pair in every if pair[0] is not None]
        summed = _sum_over_replicas([gradient for gradient, _ in pairs])
        self.optimizer.apply(
            [*summed, *of_tables.values()],
            [*(variable for _, variable in pairs), *of_tables],
        )
        return self._update_metrics(labels, outputs, weights, totals, counts)

    def test_step(self, data: tuple) -> dict:
        """Evaluates one replica's share of a global batch; returns the metrics."""
        batch, labels, weights = data
        inputs = self._inputs(batch)
        rows, _ = self._rows(self._lookups(inputs), inputs)
        outputs = self._compiled_forward(inputs, rows)
        totals = self.objective.totals(outputs, labels, weights)
        counts = self.objective.counts(labels, weights)
        return self._update_metrics(labels, outputs, weights, totals, counts)

    def text_inputs(self, vocabularies: Vocabularies) -> TextInputs:
        """What batches must have of texts.

        Reads all items for rankers that do it once, so their weights must be there.

        Args:
            vocabularies: of the data.
        """
        rankers = {_vectors_of(name): ranker for name, ranker in self.rankers.items()}
        return text_inputs(rankers, vocabularies)

    def inputs_of(self, name: str, inputs: dict) -> dict:
        """What one ranker sees of a batch's inputs: of vectors of items its own."""
        key = _vectors_of(name)
        own = {k: v for k, v in inputs.items() if not k.startswith(ITEM_VECTORS)}
        if key in inputs:
            own[ITEM_VECTORS] = inputs[key]
        inputs = own
        num_chunks = self.rankers[name].num_chunks
        if name not in self._history_lengths and num_chunks == self.num_chunks:
            return inputs
        known = inputs["behavior_time"].shape[1]
        count = self._history_lengths.get(name, known)
        return latest_behaviors(inputs, count, num_chunks)

    def owner(self, variable: Any) -> str:
        """Whose a variable of the network is, or the table of a name: a ranker's name.

        A shared one is the first's.
        """
        if isinstance(variable, str):
            ranker, slash, _ = variable.partition("/")
            return ranker if slash else self._first
        return next(
            name
            for name, ranker in self.learners.items()
            if any(variable is own for own in ranker.network)
        )

    def _tell_without_gradient(self, paths: list[str]) -> None:
        """Once, while a graph is made: weights that the loss does not depend on."""
        new = [path for path in paths if path not in self._without_gradient]
        if new:
            self._without_gradient.update(new)
            _log.warning(
                "the loss does not depend on %d of %d weights of the network, which "
                "stay as they are: %s",
                len(new),
                len(self._network),
                ", ".join(new[:_MOST_NAMES]) + (" …" if len(new) > _MOST_NAMES else ""),
            )

    def _with_progress(self, name: str, inputs: dict) -> dict:
        """What a ranker sees of a batch that it learns from."""
        if not (name in self.learners and self.rankers[name].reads_progress):
            return inputs
        optimizer = paired(self.optimizer)
        step = tf.cast(optimizer.iterations - optimizer.first_step, tf.float32)
        return {**inputs, PROGRESS: step / self._total_steps}

    def _inputs(self, inputs: dict) -> dict[str, dict]:
        return {name: self.inputs_of(name, inputs) for name in self.rankers}

    def _lookups(self, inputs: dict[str, dict]) -> dict[str, dict]:
        """Of learners, what its rows are called → the table's name here, and ids."""
        names = {id(table): name for name, table in self.tables.items()}
        return {
            name: {
                row: (names[id(ranker.embedding.tables[table])], ids)
                for row, (table, ids) in ranker.embedding.lookups(inputs[name]).items()
            }
            for name, ranker in self.learners.items()
        }

    def _rows(
        self, lookups: dict[str, dict], inputs: dict[str, dict]
    ) -> tuple[dict[str, dict], Any]:
        """Of each ranker; what a frozen one needs it looks up by itself.

        Returns:
            The rows, and what the tables' `gradients` take.
        """
        found, looked_up = self.store.lookup(_flat(lookups))
        rows = {
            name: {row: found[name, row] for row in lookups[name]}
            if name in lookups
            else ranker.lookup(inputs[name])
            for name, ranker in self.rankers.items()
        }
        return rows, looked_up

    def _unknown(self, name: str, lookups: dict) -> dict:
        embedding = self.rankers[name].embedding
        known = embedding.embedded_keys()
        features = {
            row: (key, known[key]) for row, (key, _) in embedding.sources().items()
        }
        assert self._unknown_values is not None
        return self._unknown_values(lookups, self.optimizer.iterations, features)

    def _dropped(self, name: str, rows: dict) -> dict:
        sources = self.rankers[name].embedding.sources()
        keys = {row: key for row, (key, _) in sources.items()}
        assert self._row_dropout is not None
        return self._row_dropout(rows, self.optimizer.iterations, keys)

    def _gradients(self, inputs, rows, labels, weights, factors):
        network = [variable.value for variable in self._network]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch((rows, network))
            outputs = self._forward(inputs, rows, training=True)
            totals = self.objective.totals(outputs, labels, weights)
            loss = tf.add_n([totals[name] * factors[name] for name in totals])
        return outputs, totals, tape.gradient(loss, (rows, network))

    def _forward(
        self, inputs: dict[str, dict], rows: dict[str, dict], training: bool = False
    ) -> dict[str, Outputs]:
        return {
            name: ranker.outputs(
                inputs[name], rows[name], training=training and ranker.trainable
            )
            for name, ranker in self.rankers.items()
        }

    def _update_metrics(
        self,
        labels: tf.Tensor,
        outputs: dict[str, Outputs],
        weights: tf.Tensor,
        totals: dict[str, tf.Tensor],
        counts: dict[str, tf.Tensor],
    ) -> dict:
        for name, mean in self._terms.items():
            mean.update_state(
                tf.math.divide_no_nan(totals[name], counts[name]), counts[name]
            )
        for name, mean in self._measures.items():
            total, count = outputs[self._first].measures[name]
            mean.update_state(tf.math.divide_no_nan(total, count), count)
        first = outputs[self._first].logits
        self._ranking.update_state(*request_auc(labels[..., 0], first[..., 0], weights))
        for index, auc in enumerate(self._aucs):
            auc.update_state(labels[..., index], first[..., index], weights)
        for name, auc in self._other_aucs.items():
            auc.update_state(labels[..., 0], outputs[name].logits[..., 0], weights)
        # Of a share in which a term has nothing to say it is no reason to stop.
        return self._results(of_nothing=0.0)

    def get_metrics_result(self) -> dict:
        """Keras' hook: the metrics so far over all replicas, by their reported names.

        What is not defined is NaN; so is the loss where no term is.
        """
        return self._results(of_nothing=float("nan"))

    def score_histograms(self) -> dict[str, np.ndarray]:
        """The logits so far by class, all replicas'; see `LogitAUC.histograms`.

        They are those of the label that is trained for. All workers must ask together.
        """
        return self._aucs[0].histograms()

    def _results(self, of_nothing: float) -> dict:
        means = {name: mean.result() for name, mean in self._terms.items()}
        known = [self._terms[term.name].count > 0 for term in self.objective.terms]
        step = self.optimizer.iterations
        loss = tf.add_n(
            [
                term.weight_at(step) * tf.where(is_known, means[term.name], 0.0)
                for term, is_known in zip(self.objective.terms, known, strict=True)
            ]
        )
        return {
            "loss": tf.where(tf.reduce_any(known), loss, of_nothing),
            **(means if len(means) > 1 else {}),
            **{auc.name: auc.result() for auc in self._aucs},
            self._ranking.name: self._ranking.result(),
            **{auc.name: auc.result() for auc in self._other_aucs.values()},
            **{name: mean.result() for name, mean in self._measures.items()},
        }

    def make_train_function(self, force: bool = False) -> Callable:
        """Keras' hook; see `_on_batches`."""
        if force or self.train_function is None:
            self.train_function = self._on_batches(self.train_step)
        return self.train_function

    def make_test_function(self, force: bool = False) -> Callable:
        """Keras' hook; see `_on_batches`."""
        if force or self.test_function is None:
            self.test_function = self._on_batches(self.test_step)
        return self.test_function

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Nothing to do: the schema decides all shapes. See `distribution`."""

    def _on_batches(self, step: Callable) -> Callable[[Iterator], dict]:
        """A Keras train or test function: runs a step on an iterator's next batch.

        It differs from Keras' own in four points. It waits for the batch outside of
        the graph, so that the time it waited is known (`input_seconds`). It traces once
        for each history and slate length with the batch left open, because models rely
        on static shapes in all axes but the batch. It reduces the logs in a way that
        every strategy allows (see `ctr_tf.training.distribution`). And it tells all
        workers what one of them wishes (`wishes`).
        """
        strategy = self.distribute_strategy

        def on_replica(data):
            return step(data), self.wishes.over_replicas()

        def on_replicas(data):
            logs, wishes = strategy.run(on_replica, args=(data,))
            (wishes, *_) = strategy.experimental_local_results(wishes)
            return distribution.reduce_logs(strategy, logs), wishes

        def lengths(data):
            inputs = [data[0][name] for name in ("behavior_time", "candidate_mask")]
            behaviors, candidates = (
                strategy.experimental_local_results(value)[0].shape[1]
                for value in inputs
            )
            return f"first batch of slates of {candidates} and histories of {behaviors}"

        functions: dict[tuple, Callable] = {}

        def function(iterator):
            started = time.perf_counter()
            data = next(iterator)
            self.input_seconds += time.perf_counter() - started
            self.wishes.tell()
            logs, wishes = run(data)
            self.wishes.stepped(wishes)
            return logs

        def run(data):
            if self.run_eagerly:
                return on_replicas(data)
            specs = tf.nest.map_structure(distribution.open_batch, data)
            key = tuple(str(spec) for spec in tf.nest.flatten(specs))
            if key not in functions:
                if functions:
                    _log.info("%s: its graph is made", lengths(data))
                # Each a function to TensorFlow, which else warns of retracing one.
                functions[key] = tf.function(
                    functools.partial(on_replicas),
                    input_signature=(specs,),
                    autograph=False,
                )
            return functions[key](data)

        return function


def _vectors_of(name: str) -> str:
    """The key, in batches, of what the ranker of a name has read of items."""
    return f"{ITEM_VECTORS}_{name}"


def _check_rankers(rankers: Mapping[str, Ranker]) -> None:
    """All are fed by the same batches, and saved under their names."""
    tasks = {name: ranker.tasks for name, ranker in rankers.items()}
    if len(set(tasks.values())) > 1:
        raise UserError(
            f"Rankers that are trained together have equal `tasks`. Received: {tasks}"
        )
    wrong = [name for name in rankers if not name.isidentifier()]
    if wrong or MAIN in list(rankers)[1:]:
        raise UserError(
            f"A ranker's name is a word, and '{MAIN}' that of the first alone. "
            f"Received: {list(rankers)}"
        )


def _check_terms(
    objective: Objective, rankers: Mapping[str, Ranker], first: Ranker
) -> None:
    """Every term looks at a ranker that is there, and is called like no metric."""
    taken = {"loss", "auc", "gauc_request", *first.measured}
    taken |= {f"auc_{task}" for task in first.tasks}
    taken |= {f"{name}_auc" for name in rankers}
    for term in objective.terms:
        for name in term.loss.rankers:
            if name not in rankers:
                what = f"ranker of the term '{term.name}'"
                raise UserError(unknown_name(what, name, rankers))
        if term.name in taken:
            raise UserError(
                f"A term has a name that no metric has. Received: '{term.name}'"
            )


def _tables_of(rankers: Mapping[str, Ranker]) -> dict[str, EmbeddingTable]:
    """Name → table of all rankers, each once; those of the first by their own names."""
    found: dict[str, EmbeddingTable] = {}
    for index, (name, ranker) in enumerate(rankers.items()):
        for table_name, table in ranker.embedding.tables.items():
            if not any(table is known for known in found.values()):
                found[f"{name}/{table_name}" if index else table_name] = table
    return found


def _flat(nested: Mapping[str, Mapping]) -> dict[tuple[str, str], Any]:
    return {(name, key): v for name, own in nested.items() for key, v in own.items()}


def _sum_over_replicas(values):
    replica = tf.distribute.get_replica_context()
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, values)
