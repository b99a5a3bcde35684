"""FLOPs of a forward pass, counted on its TensorFlow graph at concrete shapes.

Every operation of the graph counts by its shapes, which must all be known:

* a contraction (a matrix product, an einsum): 2 for each multiplication and addition;
* arithmetic by element, comparisons among it: 1 an element of the result, whether of
  floats or of integers (a bit of a hash is not free), `exp` or `sin` no more than `+`;
* a reduction, a cumulative sum: 1 an element of its input; a softmax: 5 an element;
* what moves, selects or converts data (gather, reshape, concat, where, cast): 0, as do
  sorting and top-k, whose cost is comparisons of a number that depends on the kernel.

TensorFlow's own profiler would count matrix products alike, but it takes the inner
dimension of a batched product from the wrong axis where the first factor is adjoint
(`adj_x`), and knows neither einsum nor the sigmoid, among others.
"""

import math
import re
from collections.abc import Mapping

import tensorflow as tf

from ctr_tf.errors import UserError
from ctr_tf.models.ranker import Ranker

_BY_ELEMENT = frozenset(
    """
    Abs Add AddV2 BiasAdd BitwiseAnd BitwiseOr BitwiseXor Ceil Cos Div DivNoNan Elu
    Equal Erf Exp Expm1 Floor FloorDiv FloorMod Greater GreaterEqual LeakyRelu
    LeftShift Less LessEqual Log Log1p LogicalAnd LogicalNot LogicalOr Maximum
    Minimum Mul MulNoNan Neg NotEqual PopulationCount Pow RealDiv Reciprocal Relu
    RightShift Round Rsqrt Selu Sigmoid Sign Sin Softplus Softsign Sqrt Square
    SquaredDifference Sub Tanh Xdivy
    """.split()
)
_BY_INPUT = frozenset(
    """
    All Any ArgMax ArgMin Cumprod Cumsum L2Loss Max Mean Min Prod SegmentSum SegmentMax
    Sum UnsortedSegmentMax UnsortedSegmentMin UnsortedSegmentSum
    """.split()
)
_SOFTMAX = frozenset(("Softmax", "LogSoftmax"))
_SOFTMAX_FLOPS = 5  # maximum, difference, exp, sum, quotient
_BATCHED = frozenset(("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"))
_NESTED = re.compile(
    "(Stateful)?PartitionedCall|(Stateless)?(If|Case|While)|XlaLaunch|Conv.*"
)


def request_graph(
    ranker: Ranker, inputs: Mapping[str, tf.Tensor]
) -> tf.types.experimental.ConcreteFunction:
    """The forward pass at the shapes of these inputs, as a concrete function.

    Args:
        ranker: inputs → logits.
        inputs: of a batch.
    """
    spec = {key: tf.TensorSpec(x.shape, x.dtype) for key, x in inputs.items()}
    forward = tf.function(lambda inputs: ranker(inputs, training=False), [spec])
    return forward.get_concrete_function()


def graph_flops(graph: tf.Graph) -> int:
    """FLOPs of one run of all operations of a graph; see the module.

    Args:
        graph: of a concrete function, such as `request_graph(…).graph`.

    Raises:
        UserError: if a shape is not known, or an operation holds a graph of its own
            or is a convolution: these are not counted.
    """
    return sum(map(_flops, graph.get_operations()))


def product_flops(graph: tf.Graph) -> int:
    """The part of `graph_flops` that contractions have: matrix products and einsums."""
    return sum(map(_product_flops, graph.get_operations()))


def _flops(operation: tf.Operation) -> int:
    kind = operation.type
    if _NESTED.fullmatch(kind):
        raise UserError(
            "FLOPs are counted in graphs without calls, branches, loops and "
            f"convolutions. Received: operation '{operation.name}' of type {kind}"
        )
    if kind in _BY_ELEMENT:
        return _size(operation.outputs[0])
    if kind in _BY_INPUT:
        return _size(operation.inputs[0])
    if kind in _SOFTMAX:
        return _SOFTMAX_FLOPS * _size(operation.outputs[0])
    return _product_flops(operation)


def _product_flops(operation: tf.Operation) -> int:
    kind = operation.type
    if kind == "MatMul":
        axis = 0 if operation.get_attr("transpose_a") else 1
        return 2 * _size(operation.outputs[0]) * operation.inputs[0].shape[axis]
    if kind in _BATCHED:
        axis = -2 if operation.get_attr("adj_x") else -1
        return 2 * _size(operation.outputs[0]) * operation.inputs[0].shape[axis]
    if kind == "Einsum":
        return _einsum_flops(operation)
    return 0


def _einsum_flops(operation: tf.Operation) -> int:
    equation = operation.get_attr("equation").decode()
    terms = equation.split("->")[0].split(",")
    if "." in equation:
        raise UserError(
            f"FLOPs of an einsum need its axes by name. Received: '{equation}'"
        )
    sizes = {
        axis: size
        for term, tensor in zip(terms, operation.inputs, strict=True)
        for axis, size in zip(term, _shape(tensor), strict=True)
    }
    return 2 * math.prod(sizes.values())


def _size(tensor: tf.Tensor) -> int:
    return math.prod(_shape(tensor))


def _shape(tensor: tf.Tensor) -> tuple[int, ...]:
    if not tensor.shape.is_fully_defined():
        raise UserError(
            "FLOPs are counted at known shapes. "
            f"Received: '{tensor.name}' of shape {tensor.shape}"
        )
    return tuple(tensor.shape)
