"""From a trained run to a SavedModel that scores raw requests."""
