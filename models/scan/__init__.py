"""The four-directional scan of GSAM: one contract, several backends."""

from models.scan.reference import DIRECTIONS, scan_reference

__all__ = ["DIRECTIONS", "scan_reference"]
