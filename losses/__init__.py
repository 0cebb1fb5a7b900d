"""The loss terms, a file for each family, and the objectives made of them; imports utils/, models/, no datasets/.

``objectives`` registers every term and gives each stage of training its named terms and their total; ``flow``,
``photometric``, ``fusion`` and ``segmentation`` hold the terms, ``basics`` what several of them are made of.
"""
