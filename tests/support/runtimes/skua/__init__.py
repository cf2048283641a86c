"""The program of the standalone trees that the tests run."""
