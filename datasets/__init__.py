"""Pairs of images and what is made of them: folders, public sets, deformations, training crops.

``paired`` reads pairs, ``sample`` and ``toy`` are embedded ones, ``deformation`` deforms them with a known flow,
``crops`` and ``augment`` draw training batches; ``prepare``, ``fetch`` and ``make_test_set`` lay out sets on disk and
run as ``python -m datasets.NAME``. Imports utils/ and models/.
"""
