"""A layer that was given to another one."""

from typing import Any

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


def shared_config(layer: keras.layers.Layer) -> dict[str, Any]:
    """The config of a layer that several others may have been given.

    From the second time on, Keras marks what it writes twice into one file. What holds
    the layer copies the first config, which the mark then misses, and a load would make
    two layers of one. So each is written twice, and has the mark.
    """
    keras.saving.serialize_keras_object(layer)
    return keras.saving.serialize_keras_object(layer)
