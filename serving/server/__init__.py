"""A development server with TF Serving's API, on TensorFlow's own loader.

`serve` is the command, `model` what is served, `checks` what a request must be;
`grpc_api` and `rest_api` are the two doors. The model's code is not imported.
"""
