"""Image pairs: folders, public data sets, random deformations, training crops.

``paired`` reads pairs; ``sample`` and ``toy`` contain embedded ones; ``deformation`` deforms them by a known flow;
``training_sets`` configures the sets of a training run, from which ``crops`` and ``augment`` draw its batches.
``prepare`` (which downloads by ``fetch``) and ``make_test_set`` write data sets to disk; run them as
``python -m datasets.NAME``. Imports utils/ and models/.
"""
