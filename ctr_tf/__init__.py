"""Long-history click-through-rate models on TensorFlow and Keras 3.

This package imports nothing heavy by itself, so that a Beam worker which only needs the
schema and the time features starts without TensorFlow.
"""

__version__ = "0.1.0"
