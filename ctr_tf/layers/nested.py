"""A layer that was given to another one."""

import keras

from ctr_tf.tensors import Shape


def build_once(layer: keras.layers.Layer, shape: Shape) -> None:
    """Builds a layer, unless another block has, or Keras when it loaded the layer.

    Args:
        layer: given to a layer's constructor.
        shape: of its first input.
    """
    if not layer.built:
        layer.build(shape)
