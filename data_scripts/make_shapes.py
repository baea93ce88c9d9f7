"""Make the generated data set and say where it is.

python data_scripts/make_shapes.py [--root DIR] [--seed 1]
"""

import argparse
import json

from rcnn_tutorial.data import data_root
from rcnn_tutorial.data.generated.shapes import ensure_shapes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", default=data_root(), help="folder of all data sets (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    folder = ensure_shapes(arguments.root, arguments.seed)
    print(folder)
    for split in ("train", "val", "test"):
        content = json.loads((folder / f"annotations/instances_{split}.json").read_text())
        print(f"{split}: {len(content['images'])} images, {len(content['annotations'])} objects")
    print(f"auxiliary: {sum(1 for _ in folder.glob('auxiliary/*/*.jpg'))} images")


if __name__ == "__main__":
    main()
