"""The networks optimised for deployment: ``inference`` for speed, ``onnx_forms`` for export. Imports only models/."""
