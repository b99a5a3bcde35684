"""The command line `ctr-tf`: a module a verb, which loads what it needs late."""
