"""Mutations of whole files: cut, flipped, of another encoding, not there, something else in their place, renamed."""

import json
import os

from tests.data.fuzz_folders import OBJECTS, Outcome, Special, is_bytes


def _any_annotation(random, layout):
    """A path of an annotation or a shared file, and its picture."""
    paths = [(path, stem) for stem, path in layout.annotations.items() if path not in layout.shared]
    path, stem = random.choice(paths + [(path, None) for path in layout.shared])
    return path, stem


def _change(random, layout, change, expect):
    path, stem = _any_annotation(random, layout)
    if not is_bytes(layout, path):
        return Outcome("either", stem)
    layout.files[path] = change(layout.files[path])
    return Outcome(expect, stem)


def truncated(random, layout):
    return _change(random, layout, lambda c: c[: random.randrange(len(c) + 1)], "either")


def flipped_bits(random, layout):
    def flip(content):
        changed = bytearray(content)
        for _ in range(random.choice((1, 1, 3, 20))):
            if changed:
                changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
        return bytes(changed)

    return _change(random, layout, flip, "either")


def inserted_bytes(random, layout):
    junk = random.choice([b"\0", b"\xff", b"\x1a", b"\xc3", b"\xed\xa0\x80", b" ", b"\n", b"-", b"9", b"\x85", b'"',
                          bytes(random.randrange(256) for _ in range(9))])  # fmt: skip

    def insert(content):
        place = random.randrange(len(content) + 1)
        return content[:place] + junk * random.choice((1, 1, 40)) + content[place:]

    return _change(random, layout, insert, "either")


def repeated_part(random, layout):
    def repeat(content):
        first, last = sorted(random.randrange(len(content) + 1) for _ in range(2))
        return content[:last] + content[first:]

    return _change(random, layout, repeat, "either")


def emptied(random, layout):
    path, stem = _any_annotation(random, layout)
    layout.files[path] = random.choice([b"", b"\xef\xbb\xbf", b"\xff\xfe", b"\n\n", b" "])
    # a list without lines or a label without lines has nothing in it, all else is no annotation
    return Outcome("either" if path.endswith(".txt") else "refused", stem)


def byte_order_mark(random, layout):
    return _change(random, layout, lambda c: b"\xef\xbb\xbf" + c, "read")


def crlf(random, layout):
    return _change(random, layout, lambda c: c.replace(b"\n", b"\r\n"), "read")


def utf_16(random, layout):
    return _change(random, layout, lambda c: c.decode(errors="replace").encode("utf-16"), "either")


def white_space_behind(random, layout):
    return _change(random, layout, lambda c: c + random.choice([b"\n", b"\n\n", b"\r\n"]), "read")


def something_else_there(random, layout):
    """A folder, a pipe, a link to nowhere or to itself, or a file that may not be read, in place of a file."""
    everything = [(path, stem) for stem, path in layout.pictures.items()] + [_any_annotation(random, layout)]
    path, stem = random.choice(everything)
    if not is_bytes(layout, path):
        return Outcome("either", stem)
    kind = random.choice(["folder", "fifo", "nowhere", "itself", "locked", "device"])
    layout.files[path] = {
        "folder": Special("folder"),
        "fifo": Special("fifo"),
        "nowhere": Special("link", "nowhere"),
        "itself": Special("link", os.path.basename(path)),
        "locked": Special("locked", layout.files[path]),
        "device": Special("link", "/dev/zero"),
    }[kind]
    return Outcome("refused", stem)


def a_link_instead(random, layout):
    everything = [(path, stem) for stem, path in layout.pictures.items()] + [_any_annotation(random, layout)]
    path, stem = random.choice(everything)
    if is_bytes(layout, path):
        layout.files[path] = Special("link", layout.files[path])
    return Outcome("read", stem)


def renamed(random, layout):
    """A picture and its annotation under a name that other systems would not choose."""
    new = random.choice(["a b", "\u00e9\u4e2d\U0001f600", "-x", "..x", "a\nb", "x" * 240, "%s", "a'b\"c",
                         "\udcff\udc80", "CON", "a.b.c", "$(touch marker)", "a\\b", "1", "a -1"])  # fmt: skip
    stem = random.choice(list(OBJECTS))
    listed = {path: stem for path in (layout.pictures[stem], layout.annotations[stem]) if path not in layout.shared}
    if not all(is_bytes(layout, path) for path in listed):
        return Outcome("either")
    for path in listed:
        folder, name = os.path.split(path)
        layout.files[f"{folder}/{new}{os.path.splitext(name)[1]}"] = layout.files.pop(path)
    if layout.name == "voc" and is_bytes(layout, layout.shared[0]):
        # between others: a list has no outer white space
        encoded = new.encode(errors="surrogateescape")
        layout.files[layout.shared[0]] = layout.files[layout.shared[0]].replace(stem.encode(), encoded, 1)
    if layout.name == "coco":
        if not is_bytes(layout, "a.json"):
            return Outcome("either")
        old = json.dumps(f"{stem}.jpg").encode()
        layout.files["a.json"] = layout.files["a.json"].replace(old, json.dumps(f"{new}.jpg").encode(), 1)
    # what a list cannot say, or would say in two ways
    plain = layout.name in ("labelimg", "yolo", "polygons") or not set(new) & set("\n\\\udcff'\"")
    plain &= not (layout.name == "voc" and new == "a -1")
    hidden = new.startswith("..")  # as macOS's files
    return Outcome("read" if plain and not hidden else "either", None, (stem, new))


def voc_line(random, layout):
    """A further line in the list of a split that names no picture; the others are read."""
    if layout.name != "voc" or not is_bytes(layout, layout.shared[0]):
        return None
    odd = random.choice([b"/", b"..", b".", b"a\0b", b"x" * 5000, b"\xff", b"a b c", b"../a", b"/etc/passwd", b"\\",
                         b"nowhere", b"A", b'""', b"a.xml.xml", b"a/", b"//", b"-1", b"a 7"])  # fmt: skip
    lines = layout.files[layout.shared[0]].splitlines()
    lines.insert(random.randrange(len(lines) + 1), odd)
    layout.files[layout.shared[0]] = b"\n".join(lines)
    return Outcome("refused", "listed")


def no_picture(random, layout):
    stem = random.choice(list(OBJECTS))
    layout.files.pop(layout.pictures[stem], None)
    return Outcome("refused", stem)


def other_files_beside(random, layout):
    """What systems and tools leave in folders."""
    folder = os.path.dirname(random.choice([*layout.pictures.values(), *layout.annotations.values()]))
    name, content = random.choice(
        [("._a.jpg", b"\0"), ("Thumbs.db", b"\0"), (".DS_Store", b"\0"), ("._a.xml", b"\0"), (".hidden/x.jpg", b""),
         ("readme.md", b"x"), ("._a.txt", b"\0")]
    )  # fmt: skip
    layout.files[f"{folder}/{name}" if folder else name] = content
    return Outcome("read")
