"""The simulated `pycuda`."""

from embedge_simulated import become

become(__name__)
