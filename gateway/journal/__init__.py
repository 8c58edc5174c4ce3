"""The append-only, Merkle-hashed log of everything that happened: the only truth."""
