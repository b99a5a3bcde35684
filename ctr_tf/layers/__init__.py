"""Layers on `keras.ops`: one idea of a paper a file.

`from ctr_tf.layers import EvoAttention` imports the file of that layer and no other;
docs/layers.md shows a Keras model that is made of some.
"""

from typing import Any

from ctr_tf.lazy import attribute

_MODULES = {
    "ASGA": "asga",
    "ActivationUnit": "activation_unit",
    "Alibi": "alibi",
    "BehaviorClusters": "behavior_clusters",
    "ClusterAttention": "cluster_attention",
    "CoAction": "co_action",
    "ContextGatedFusion": "context_gated_fusion",
    "Dice": "dice",
    "DilatedAttention": "dilated_attention",
    "DilatedKeys": "dilated_keys",
    "DualAlignment": "dual_alignment",
    "EvoAttention": "evo_attention",
    "EvoKeys": "evo_keys",
    "FeatureEmbedding": "feature_embedding",
    "FixedChunking": "fixed_chunking",
    "FullAttention": "full_attention",
    "FullKeys": "full_keys",
    "GatedQueryCalibration": "gated_query_calibration",
    "HSTUBias": "hstu_bias",
    "HSTUBlock": "hstu_block",
    "HashCollisions": "hash_collisions",
    "HistoryViews": "history_views",
    "KernelAttention": "kernel_attention",
    "KernelKeys": "kernel_keys",
    "NativeSparseAttention": "native_sparse_attention",
    "NativeSparseKeys": "native_sparse_keys",
    "PAFS": "pafs",
    "PositionBias": "position_bias",
    "PostNormBlock": "post_norm_block",
    "PredictionHead": "prediction_head",
    "ProfileTokens": "profile_tokens",
    "RMSNorm": "rms_norm",
    "RecentAttention": "recent_attention",
    "RelTemporal": "rel_temporal",
    "RotaryEncoding": "rotary_encoding",
    "SearchAttention": "search_attention",
    "SimHash": "sim_hash",
    "SimilarityChunking": "similarity_chunking",
    "SparseBlock": "sparse_block",
    "SwiGLU": "swiglu",
    "T5Bias": "t5_bias",
    "TargetAttention": "target_attention",
    "TimeChunking": "time_chunking",
    "TokenMerge": "token_merge",
    "Tower": "tower",
    "TowerHead": "tower_head",
    "TransformerReader": "transformer_reader",
    "UnifiedAttentionBlock": "unified_attention_block",
}
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    """Imports the file of a layer when the layer is asked for."""
    return attribute(__name__, _MODULES, name)


def __dir__() -> list[str]:
    return __all__
