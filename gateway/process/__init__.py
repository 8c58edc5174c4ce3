"""How processes of the gateway start, are confined, and talk to each other (docs/adr/0002)."""
