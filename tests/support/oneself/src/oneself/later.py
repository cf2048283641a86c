"""A module that nothing imports at the start."""


def lazily():
    """Needs a native module of the standard library that no other act has imported."""
    import fractions
    import statistics

    return str(fractions.Fraction(statistics.mean([1, 2])))
