"""`python -m rcnn_tutorial`, which is the command `rcnn-tutorial`."""

from rcnn_tutorial.app.cli import main

if __name__ == "__main__":
    main()
