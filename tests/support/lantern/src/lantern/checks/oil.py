class Oil:
    """Looks at the oil."""

    def lit(self):
        return True
