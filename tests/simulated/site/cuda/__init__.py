"""The simulated `cuda`."""

from embedge_simulated import become

become(__name__)
