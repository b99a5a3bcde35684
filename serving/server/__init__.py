"""A development server with TF Serving's API, on TensorFlow's C++ loader.

`serve` is the command, `core` the requests, `versions` the folders, `batching` the
queue, `tensorflow_c` the loader; `grpc_api` and `rest_api` are the two doors. Neither
Keras nor the model's code nor Python TensorFlow is imported.
"""
