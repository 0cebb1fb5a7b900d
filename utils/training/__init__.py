"""Training: everything around the loop of ``train.py``; imports utils/, models/, datasets/, losses/.

``stages/`` is the method, a file for each stage. ``config`` reads a recipe, ``run`` and ``state`` keep a run on disk,
``schedule`` and ``optimizers`` say how weights change, ``distributed`` sets up devices and processes, ``validation``
scores, ``log`` draws the curves.
"""
