"""Quality measures: fusion, registration and segmentation. Nothing in this package imports a network."""
