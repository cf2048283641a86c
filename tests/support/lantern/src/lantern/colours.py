def colour(name):
    """The colour of a lamp."""
    return {"wick": "amber", "oil": "green"}.get(name, "white")
