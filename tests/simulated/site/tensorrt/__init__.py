"""The simulated `tensorrt`."""

from embedge_simulated import become

become(__name__)
