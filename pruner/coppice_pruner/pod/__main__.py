"""`python -m coppice_pruner.pod`: one process of a run that torchrun started."""

import os
import sys

from coppice_pruner.pod.main import main

if __name__ == "__main__":
    sys.exit(main(os.environ))
