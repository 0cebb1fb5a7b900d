"""From two images to a registration, with networks or without; imports of models/ layers, warping and results alone.

``descriptors`` what two modalities share, and how well it agrees; ``structural`` an affine map fitted to it;
``elastic`` the smooth displacement that remains; ``auto`` the structural fit, or the network where that fails;
``registry`` the registrars by name.
"""

from models.registration.registrar import Registrar
from models.registration.registry import REGISTRARS
from models.registration.transform import Transform

__all__ = ["REGISTRARS", "Registrar", "Transform"]
