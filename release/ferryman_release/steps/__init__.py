"""The steps of a release, a module each; :mod:`ferryman_release.pipeline` has their order."""
