"""Data only: the Casbin model, the attribute schema, the policy packs and their tests."""
