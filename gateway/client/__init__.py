"""What a trainer, an owner or an auditor imports: light, no server library."""
