"""Embedding rows apart from the network: how they are kept, updated and saved."""
