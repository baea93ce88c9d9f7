"""Get the BCCD data set: 364 photographs of blood cells with VOC annotations (MIT licence, Shenggan/BCCD_Dataset).

    python data_scripts/download_bccd.py [--from FOLDER_OR_ARCHIVE] [--root FOLDER]

Afterwards `load_dataset("bccd", "train")` finds it. `rcnn-tutorial data fetch bccd` does the same.
"""

import argparse
import sys
from pathlib import Path

from rcnn_tutorial.data import data_root
from rcnn_tutorial.data.download import install
from rcnn_tutorial.data.fetch import BCCD


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--from", dest="local", metavar="FOLDER_OR_ARCHIVE", help="take this in place of the download")
    parser.add_argument("--root", type=Path, default=data_root(), help="folder of all data sets (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        folder = install(BCCD, options.root / "bccd", options.local)
    except (OSError, ValueError) as error:
        sys.exit(f"download_bccd.py: {error}")
    print(f"BCCD is in {folder}")


if __name__ == "__main__":
    main()
