"""All that reads and writes files; imports the flat files of utils/ alone.

``images`` of 8 and 16 bit (``complete``: whether a file is whole), ``checkpoint`` weights, ``results`` tables.
"""
