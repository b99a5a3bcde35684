"""Recipes that come with the package, a YAML file each: `<model>_<data set>.yaml`."""
