"""Pairs of images and what is made of them: folders, public sets, deformations, training crops.

``paired`` reads pairs, ``sample`` and ``toy`` are embedded ones, ``deformation`` deforms them with a known flow,
``training_sets`` names those of a training run, ``crops`` and ``augment`` draw its batches; ``prepare``, ``fetch`` and
``make_test_set`` lay out sets on disk and run as ``python -m datasets.NAME``. Imports utils/ and models/.
"""
