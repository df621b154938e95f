"""Plans of TensorRT, built from a bundle's graphs on the device that will run them, and proven there.

It runs in a process of its own (`python -m embedge_export.tensorrt`): building takes minutes and much memory, and what
goes wrong in there is then a message, not a dead server. It needs tensorrt and no torch.
"""
