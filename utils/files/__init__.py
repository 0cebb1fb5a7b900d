"""All that reads and writes files; imports the flat files of utils/ alone.

``images`` of 8 and 16 bit, ``checkpoint`` weights, ``results`` tables.
"""
