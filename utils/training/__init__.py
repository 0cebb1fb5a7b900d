"""Training: everything but the loop in ``train.py``; imports utils/, models/, datasets/, losses/.

``stages/`` is the method, one file per stage. ``config`` reads a recipe, ``run`` and ``state`` store a run on disk,
``schedule`` and ``optimizers`` define the updates of the weights, ``distributed`` sets up devices and processes,
``validation`` scores, ``log`` writes the curves.
"""
