"""Run inside mergekit's environment: its command line, with the random numbers of each tensor drawn from the seed that the
sandbox gives a program for that tensor, so that both draw the same masks.
"""

import hashlib
import sys

import torch
from mergekit.merge_methods.task_adapter import ExecuteMergeMethodTask
from mergekit.scripts.run_yaml import main

_execute = ExecuteMergeMethodTask.execute


def execute(self, *args, **kwargs):
    name = self.output_weight.name
    torch.default_generator.manual_seed(int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big"))
    return _execute(self, *args, **kwargs)


ExecuteMergeMethodTask.execute = execute
sys.exit(main())
