"""Execute the notebooks in place and bring them into the form in which they are committed.

python tools/notebooks.py run [NOTEBOOK ...]        execute, then normalise
python tools/notebooks.py normalise [NOTEBOOK ...]  without executing
"""

import argparse
import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
CELL_METADATA = ("tags", "slideshow", "jupyter", "jp-MarkdownHeadingCollapsed")


def all_notebooks() -> list[Path]:
    return sorted(p for p in (ROOT / "notebooks").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)


def execute(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    nbformat.write(notebook, path)


def normalise(path: Path) -> None:
    """Order of cells, counts, metadata and ids, as `tests/test_notebooks.py` asks for them."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    seen: set[str] = set()
    number = 0
    for place, cell in enumerate(notebook.cells):
        cell.metadata = {k: cell.metadata[k] for k in CELL_METADATA if k in cell.metadata}
        if not re.fullmatch(r"[a-z0-9-]+", cell.id) or cell.id in seen or re.fullmatch(r"[0-9a-f]{8}(-.*)?", cell.id):
            cell.id = f"cell-{place:02d}"  # an editor's random id would change with every copy
        seen.add(cell.id)
        cell.source = cell.source.rstrip()
        if cell.cell_type != "code":
            continue
        number += 1
        cell.execution_count = number
        for output in cell.outputs:
            output.pop("execution_count", None) if output.output_type != "execute_result" else None
            if output.output_type == "execute_result":
                output.execution_count = number
            if "metadata" in output:  # of a picture its description stays
                output.metadata = {k: {"alt": v["alt"]} for k, v in output.metadata.items() if "alt" in v}
    nbformat.validate(notebook)
    nbformat.write(notebook, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("do", choices=["run", "normalise"])
    parser.add_argument("notebooks", nargs="*", type=Path)
    args = parser.parse_args()
    for path in args.notebooks or all_notebooks():
        if args.do == "run":
            execute(path)
        normalise(path)
        print(f"{path.name}: {path.stat().st_size // 1024} KiB", file=sys.stderr)


if __name__ == "__main__":
    main()
