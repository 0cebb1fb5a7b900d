"""The networks rearranged for use: ``inference`` for speed, ``onnx_forms`` for export. Imports models/ alone."""
