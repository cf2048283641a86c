"""Where releases are kept: a folder or a bucket, behind one Protocol (:mod:`ferryman_release.store.base`)."""
