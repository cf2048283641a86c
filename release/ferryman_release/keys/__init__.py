"""The life of keys: the folder that is committed, the ceremonies that change it, and when they are due."""
