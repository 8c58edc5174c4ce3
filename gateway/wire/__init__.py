"""HTTP messages as frozen dataclasses, shared by the API and the client."""
