"""Laws that hold for any input: one law a test, tried on many examples, the same ones in each run."""
