"""Reading and writing of files; imports only the modules in utils/ itself.

``decode`` decodes image files (``complete`` detects truncated ones), ``images`` makes visible ones of them and writes
results. ``thermal`` reads thermal files to their values, with ``radiometric``, ``false_colour`` and ``no_data``;
``infrared`` makes images of a set of them, with ``stretch`` and ``polarity``. ``partners`` pairs files by name.
``checkpoint`` reads and writes weights, ``results`` tables.
"""
