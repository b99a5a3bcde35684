"""The command line `ctr-tf`; its verbs live in the modules that do the work."""
