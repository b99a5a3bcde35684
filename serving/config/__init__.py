"""Configuration files for TF Serving, made from what an export says of itself."""
