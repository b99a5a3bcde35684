"""What tests of layers need of a backend, of whichever Keras runs on."""

import keras
import pytest

BACKEND = keras.backend.backend()

if BACKEND == "torch":  # whose tensors refuse to be arrays where they have gradients
    import torch

    def _array(tensor, *arguments):
        return tensor.detach().cpu().numpy().__array__(*arguments)

    torch.Tensor.__array__ = _array


def only_on_tensorflow(reason):
    """Marks a test that is about TensorFlow itself; elsewhere it is skipped, aloud."""
    return pytest.mark.skipif(BACKEND != "tensorflow", reason=f"TensorFlow: {reason}")


def tensor(value, dtype=None):
    """A tensor of the backend."""
    return keras.ops.convert_to_tensor(value, dtype)


def gradients(function, inputs):
    """Of the scalar `function(*inputs)` by each input; 0 where it has no part."""
    inputs = [tensor(value) for value in inputs]
    if BACKEND == "jax":
        import jax

        return jax.grad(function, argnums=tuple(range(len(inputs))))(*inputs)
    if BACKEND == "torch":
        return _torch_gradients(function(*[i.requires_grad_() for i in inputs]), inputs)
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(inputs)
        result = function(*inputs)
    return tape.gradient(result, inputs, unconnected_gradients="zero")


def weight_gradients(function, weights):
    """Of the scalar `function()` by the weights, by their paths; 0 if it has none."""
    if BACKEND == "jax":

        def of_values(*values):
            pairs = list(zip(weights, values, strict=True))
            with keras.StatelessScope(state_mapping=pairs):
                return function()

        found = gradients(of_values, [weight.value for weight in weights])
    elif BACKEND == "torch":
        found = _torch_gradients(function(), [weight.value for weight in weights])
    else:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            result = function()
        values = [weight.value for weight in weights]
        found = tape.gradient(result, values, unconnected_gradients="zero")
    return {w.path: g for w, g in zip(weights, found, strict=True)}


def _torch_gradients(result, inputs):
    found = torch.autograd.grad(result, inputs, allow_unused=True)
    pairs = zip(inputs, found, strict=True)
    return [torch.zeros_like(i) if g is None else g for i, g in pairs]
