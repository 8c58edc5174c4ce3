"""Bytes out: leases in data workers, segments, the control link."""
