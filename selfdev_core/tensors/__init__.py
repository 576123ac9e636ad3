"""Tensors in safetensors files, as bytes at their places: mapped for reading, written as they come, worked on in blocks."""
