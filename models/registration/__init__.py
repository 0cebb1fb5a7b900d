"""From two images of any two sizes to the map between them; imports layers, warping, results of models/.

In the order of the work: ``descriptors`` of a pair at one scale, ``search`` for hypotheses, ``affine`` fits them,
``decision`` weighs the evidence, ``elastic`` refines; ``registrar`` puts these together and returns a ``transform``.
``registry`` holds the registrars by name. ``rig`` makes one transform of those of many pairs; ``averaging`` compares
transforms and averages them, ``smoothing`` does so over time; ``measurements`` brings a thermal file's values to VI.
``points`` makes a transform of points marked by hand; ``reasons`` says why one was refused.
"""

from models.registration.registrar import Registrar
from models.registration.registry import REGISTRARS
from models.registration.transform import Transform

__all__ = ["REGISTRARS", "Registrar", "Transform"]
