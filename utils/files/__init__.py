"""Reading and writing of files; imports only the modules in utils/ itself.

``images`` reads and writes images (``complete`` detects truncated ones), ``checkpoint`` weights, ``results`` tables.
"""
