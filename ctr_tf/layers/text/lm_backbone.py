"""Models of keras-hub from folders of Hugging Face's layout.

keras-hub is imported where one is made: its import takes seconds. Of its models we use
the layers, by passes of our own (`lm_passes`). Its reader of such folders is not used:
it needs tensors that nothing here reads (a pooler, a head), and leaves out what
config.json says of activations and of norms.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
from keras import ops

from ctr_tf.layers.text.lm_config import LMConfig, read_lm_config
from ctr_tf.layers.text.lm_weights import find_weights, read_weights
from ctr_tf.tensors import Tensor


def check_folder(folder: str | Path, pretrained: bool = True) -> LMConfig:
    """Reads config.json, and looks for weights where they are wanted.

    Raises:
        UserError: if the folder is not whole, or holds another model than those known
            here; keras-hub is not imported for it.
    """
    config = read_lm_config(folder)
    if pretrained:
        find_weights(folder, config)
    return config


def load_backbone(
    folder: str | Path, pretrained: bool = True, dtype: Any = None
) -> tuple[LMConfig, Any]:
    """Makes the language model of a folder.

    Args:
        folder: config.json and, for weights, model.safetensors, in one file or in the
            parts of an index.
        pretrained: whether to read weights; else they are random, by keras-hub's
            initializers, and config.json is enough.
        dtype: a Keras policy.

    Returns:
        What config.json says, and a `keras_hub.models.Backbone` without dropout.

    Raises:
        UserError: see `check_folder`.
    """
    config = check_folder(folder, pretrained)
    backbone = make_backbone(config, dtype)
    if pretrained:
        read_weights(find_weights(folder, config), backbone)
    return config, backbone


def make_backbone(config: LMConfig, dtype: Any = None) -> Any:
    """Makes a `keras_hub.models.Backbone` with random weights, without dropout."""
    return _decoder(config, dtype) if config.is_causal else _encoder(config, dtype)


def _encoder(config, dtype):
    import keras_hub

    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=config.vocabulary_size,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        hidden_dim=config.width,
        intermediate_dim=config.ffn_width,
        dropout=0.0,
        max_sequence_length=config.max_length,
        num_segments=config.num_segments,
        dtype=dtype,
    )
    # keras-hub's BERT has tanh's GELU and norms of 1e-12, whatever config.json says.
    backbone.embeddings_layer_norm.epsilon = config.epsilon
    for layer in backbone.transformer_layers:
        layer._self_attention_layer_norm.epsilon = config.epsilon
        layer._feedforward_layer_norm.epsilon = config.epsilon
        layer._feedforward_intermediate_dense.activation = _activation(config)
    return backbone


def _decoder(config, dtype):
    import keras_hub

    sizes = {
        "vocabulary_size": config.vocabulary_size,
        "num_layers": config.num_layers,
        "num_query_heads": config.num_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "hidden_dim": config.width,
        "intermediate_dim": config.ffn_width,
        "rope_max_wavelength": config.rope_base,
        "layer_norm_epsilon": config.epsilon,
        "tie_word_embeddings": True,  # the map to words is not read
        "dtype": dtype,
    }
    if config.architecture == "qwen3":
        return keras_hub.models.Qwen3Backbone(
            head_dim=config.head_width, sliding_window_size=None, **sizes
        )
    if config.architecture == "qwen2":
        return keras_hub.models.QwenBackbone(**sizes)
    if config.rope_scaling is not None:
        factor, low, high, length = config.rope_scaling
        sizes |= {
            "rope_frequency_adjustment_factor": factor,
            "rope_low_freq_factor": low,
            "rope_high_freq_factor": high,
            "rope_pretraining_sequence_length": length,
        }
    return keras_hub.models.Llama3Backbone(**sizes)


def _activation(config: LMConfig) -> Callable[[Tensor], Tensor]:
    if config.activation == "gelu_tanh":
        return lambda inputs: ops.gelu(inputs, approximate=True)
    if config.activation == "gelu":
        return lambda inputs: ops.gelu(inputs, approximate=False)
    return keras.activations.get(config.activation)
