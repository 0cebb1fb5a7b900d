"""The four-directional scan of GSAM: one contract, several backends."""

from models.scan.linewise import scan
from models.scan.reference import DIRECTIONS, scan_reference

__all__ = ["DIRECTIONS", "scan", "scan_reference"]
