"""ONNX Runtime, imported with its telemetry disabled.

It reports its use to its maker unless `ORT_DISABLE_TELEMETRY` is set before it is imported. A
program that sees patients' images sends nothing anywhere, so every module takes it from here.
"""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime as onnxruntime
