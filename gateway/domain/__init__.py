"""What the words mean: values and rules without I/O, clock or randomness."""
