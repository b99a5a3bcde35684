"""A world for models that read: only titles and times say what is clicked."""
