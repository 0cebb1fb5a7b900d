"""Pairs of images and what is made of them: folders, public sets, deformations, training crops; imports utils/,
models/.

``paired`` reads pairs, ``deformation`` deforms them with a known flow, ``crops`` and ``augment`` draw training batches;
``sample`` (three real pairs) and ``toy`` (made up, with labels) need no other data; ``prepare``, ``fetch`` and ``make_test_set`` lay out sets on disk and run as ``python -m datasets.NAME``.
"""
