class Wick:
    """Looks at the wick."""

    def lit(self):
        return True
