"""What can happen to a folder: the mutations of the fuzzer, and what each of them may lead to.

A mutation changes `layout.files` and returns an `Outcome`: "read" (all is read as before), "refused" (the error names
the folder; with on_error="skip" the picture is left out, where a single one is hit), or "either" (both are right; what
is read is compared with the independent reading).
"""

import io
import json
import os
import struct
import xml.etree.ElementTree as ET
import zlib
from dataclasses import dataclass
from functools import cache

from PIL import Image

from tests.data.fuzz_folders import HEIGHT, OBJECTS, WIDTH, Special, picture

HUGE = 10**400
NO_NUMBERS = ["nan", "-nan", "inf", "-inf", "Infinity", "1e400", "1e9999999", "-1e99999999999", "0x10", "1_0", "1,5",
              "", "abc", "true", "1 2", "[3]", "\u00e9", "--1", "1e"]  # fmt: skip
ODD_NUMBERS = ["-5", "1e30", "-1e30", "0", "1e-300", "7.25", "+3", "007", " 5 ", "3.", "1e1", "99999999999999999999"]


@dataclass
class Outcome:
    """What a mutation may lead to.

    Attributes:
        expect: "read", "refused" or "either".
        stem: the one picture that is hit, or None for all.
        renamed: {stem: its new name}.
    """

    expect: str
    stem: str | None = None
    renamed: tuple[str, str] | None = None


def _any_annotation(random, layout):
    """A path of an annotation or a shared file, and its picture."""
    paths = [(path, stem) for stem, path in layout.annotations.items() if path not in layout.shared]
    path, stem = random.choice(paths + [(path, None) for path in layout.shared])
    return path, stem


def _is_bytes(layout, path):
    return isinstance(layout.files.get(path), bytes)


def _change(random, layout, change, expect):
    path, stem = _any_annotation(random, layout)
    if not _is_bytes(layout, path):
        return Outcome("either", stem)
    layout.files[path] = change(layout.files[path])
    return Outcome(expect, stem)


# Any file of text


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
    if not _is_bytes(layout, path):
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
    if _is_bytes(layout, path):
        layout.files[path] = Special("link", layout.files[path])
    return Outcome("read", stem)


def renamed(random, layout):
    """A picture and its annotation under a name that other systems would not choose."""
    new = random.choice(["a b", "\u00e9\u4e2d\U0001f600", "-x", "..x", "a\nb", "x" * 240, "%s", "a'b\"c", "\udcff\udc80",
                         "CON", "a.b.c", "$(touch marker)", "a\\b", "1", "a -1"])  # fmt: skip
    stem = random.choice(list(OBJECTS))
    listed = {path: stem for path in (layout.pictures[stem], layout.annotations[stem]) if path not in layout.shared}
    if not all(_is_bytes(layout, path) for path in listed):
        return Outcome("either")
    for path in listed:
        folder, name = os.path.split(path)
        layout.files[f"{folder}/{new}{os.path.splitext(name)[1]}"] = layout.files.pop(path)
    if layout.name == "voc" and _is_bytes(layout, layout.shared[0]):
        # between others: a list has no outer white space
        encoded = new.encode(errors="surrogateescape")
        layout.files[layout.shared[0]] = layout.files[layout.shared[0]].replace(stem.encode(), encoded, 1)
    if layout.name == "coco":
        if not _is_bytes(layout, "a.json"):
            return Outcome("either")
        old = json.dumps(f"{stem}.jpg").encode()
        layout.files["a.json"] = layout.files["a.json"].replace(old, json.dumps(f"{new}.jpg").encode(), 1)
    # what a list cannot say, or would say in two ways
    plain = layout.name in ("labelimg", "yolo", "polygons") or not set(new) & set("\n\\\udcff'\"")
    plain &= not (layout.name == "voc" and new == "a -1")
    hidden = new.startswith("..")  # as macOS's files
    return Outcome("read" if plain and not hidden else "either", None, (stem, new))


# XML


def _tree(random, layout):
    """The tree of one annotation and the function that puts it back; None where it is none any more."""
    stem = random.choice(list(OBJECTS))
    path = layout.annotations[stem]
    if not path.endswith(".xml") or not _is_bytes(layout, path):
        return None
    try:
        root = ET.fromstring(layout.files[path])
    except (ET.ParseError, ValueError, LookupError):
        return None

    def store():
        layout.files[path] = ET.tostring(root, encoding="utf-8")

    return stem, root, store


def _coordinate(random, root):
    return random.choice(root.findall("object/bndbox/*") or [root])


def xml_no_number(random, layout):
    if not (tree := _tree(random, layout)):
        return None
    stem, root, store = tree
    element = random.choice(root.findall("object/bndbox/*") + root.findall("size/*")[:2] or [root])
    element.text = random.choice([word for word in NO_NUMBERS if word])  # an empty size is a missing one
    store()
    return Outcome("refused", stem)


def xml_odd_number(random, layout):
    if not (tree := _tree(random, layout)):
        return None
    stem, root, store = tree
    _coordinate(random, root).text = random.choice(ODD_NUMBERS)
    store()
    return Outcome("either", stem)


def xml_missing_or_renamed(random, layout):
    if not (tree := _tree(random, layout)):
        return None
    stem, root, store = tree
    pairs = [(box, e) for box in root.findall("object/bndbox") for e in box]
    pairs += [(o, e) for o in root.findall("object") for e in o if e.tag in ("name", "bndbox")]
    if not pairs:
        return Outcome("either", stem)
    parent, element = random.choice(pairs)
    change = random.choice(["remove", "rename", "upper", "nest"])
    if change == "remove":
        parent.remove(element)
    elif change == "nest":
        parent.remove(element)
        ET.SubElement(parent, "inner").append(element)
    else:
        element.tag = element.tag.upper() if change == "upper" else "other"
    store()
    return Outcome("refused", stem)


def xml_twice(random, layout):
    """Two names, boxes or coordinates in one object: which is meant cannot be known."""
    if not (tree := _tree(random, layout)):
        return None
    stem, root, store = tree
    pairs = [(box, e) for box in root.findall("object/bndbox") for e in box]
    pairs += [(o, e) for o in root.findall("object") for e in o if e.tag in ("name", "bndbox", "difficult")]
    pairs += [(size, e) for size in root.findall("size") for e in size if e.tag != "depth"]
    if not pairs:
        return Outcome("either", stem)
    parent, element = random.choice(pairs)
    other = ET.fromstring(ET.tostring(element))
    if len(other):
        other[0].text = "2.5"
    else:
        other.text = {"name": "ant cat", "difficult": "1"}.get(element.tag, "2.5")
    parent.insert(random.randrange(len(parent) + 1), other)
    store()
    return Outcome("refused", stem)


def xml_nested(random, layout):
    if not (tree := _tree(random, layout)):
        return None
    stem, root, store = tree
    inner = random.choice(list(root.iter()))
    for _ in range(100):
        inner = ET.SubElement(inner, random.choice(["a", "object", "size"]))
    store()
    return Outcome("either", stem)


def xml_swapped_elements(random, layout):
    if not (tree := _tree(random, layout)):
        return None
    stem, root, store = tree
    first, second = random.choice(list(root.iter())), random.choice(list(root.iter()))
    first.text, second.text = second.text, first.text
    store()
    return Outcome("either", stem)


def xml_harmless(random, layout):
    if not (tree := _tree(random, layout)):
        return None
    stem, root, store = tree
    root.insert(random.randrange(len(root) + 1), random.choice([ET.Comment("x"), ET.Element("pose"), ET.Element("part")]))
    for number in root.findall("object/bndbox/*"):
        number.text = random.choice([" {} ", "{}.0", "\n{}\n"]).format(number.text)
    store()
    return Outcome("read", stem)


def xml_entities(random, layout):
    """Billion laughs, and what would read other files."""
    stem = random.choice(list(OBJECTS))
    path = layout.annotations[stem]
    if not path.endswith(".xml") or not _is_bytes(layout, path):
        return None
    bomb = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 9))
    head = random.choice(
        [
            f'<!DOCTYPE a [<!ENTITY e0 "ha">{bomb}]>',
            '<!DOCTYPE a [<!ENTITY e8 SYSTEM "file:///etc/hostname">]>',
            '<!DOCTYPE a [<!ENTITY % p SYSTEM "http://127.0.0.1:9/x"> %p; <!ENTITY e8 "ant">]>',
            '<!DOCTYPE a [<!ENTITY e8 "ant">]>',
        ]
    ).encode()
    body = layout.files[path].split(b"?>")[-1]
    layout.files[path] = head + body.replace(b"<name>ant</name>", b"<name>&e8;</name>")
    return Outcome("refused", stem)


def xml_encoding(random, layout):
    encoding = random.choice(["utf-7", "idna", "rot13", "zlib", "undefined", "ascii", "latin-1", "utf-16", "mbcs", ""])
    stem = random.choice(list(OBJECTS))
    path = layout.annotations[stem]
    if not path.endswith(".xml") or not _is_bytes(layout, path):
        return None
    layout.files[path] = layout.files[path].replace(b"'utf-8'", f"'{encoding}'".encode())
    return Outcome("either", stem)


# JSON


def _json(layout):
    if layout.name != "coco" or not _is_bytes(layout, "a.json"):
        return None
    try:
        return json.loads(layout.files["a.json"])
    except (ValueError, RecursionError):
        return None


def _store_json(layout, content):
    layout.files["a.json"] = json.dumps(content).encode()


NO_JSON_NUMBERS = [float("nan"), float("inf"), -float("inf"), HUGE, -HUGE, True, False, None, "5", "nan", [3], {}, []]
ODD_VALUES = [*NO_JSON_NUMBERS, 0, -1, 1e308, 5.0, 0.5, "7", " 7 ", "", "ant", "\u00e9\U0001f600", "\ud800", "a\0b",
              "../images/a.jpg", "x" * 5000, [[]], [[[[1, 2]]]], {"a": 1}, [1, 2, 3, 4], 2**63, 2**64,
              [[1, 2, 3, 4, 5, 6]], {"size": [HEIGHT, WIDTH], "counts": [0, HEIGHT * WIDTH]}]  # fmt: skip


def json_no_number(random, layout):
    content = _json(layout)
    if content is None or not content.get("annotations"):
        return None
    annotation = random.choice(content["annotations"])
    values = annotation.get("bbox")
    kind = random.randrange(4)
    if kind == 0 and isinstance(annotation.get("segmentation"), list):
        values = annotation["segmentation"][0]
    if kind == 1 and isinstance(annotation.get("segmentation"), dict):
        runs = [0, HEIGHT * WIDTH] if random.random() < 0.5 else [HEIGHT * WIDTH]
        values = annotation["segmentation"]["counts"] = runs
    if not values or not isinstance(values, list):
        return None
    values[random.randrange(len(values))] = random.choice(NO_JSON_NUMBERS)
    stem = _stem_of(content, annotation)
    _store_json(layout, content)
    return Outcome("refused", stem)


def _stem_of(content, annotation):
    for entry in content["images"]:
        if entry.get("id") == annotation.get("image_id"):
            return str(entry.get("file_name")).removesuffix(".jpg")
    return None


def json_odd_value(random, layout):
    content = _json(layout)
    if content is None:
        return None
    parent = content
    while True:
        keys = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
        if not keys:
            return Outcome("either")
        key = random.choice(keys)
        if isinstance(parent[key], dict | list) and parent[key] and random.random() < 0.9:
            parent = parent[key]
            continue
        break
    change = random.choice(["value", "value", "value", "remove", "rename", "nest", "swap"])
    if change == "value" or (change == "rename" and isinstance(parent, list)):
        parent[key] = random.choice(ODD_VALUES)
    elif change == "remove":
        del parent[key]
    elif change == "nest":
        for _ in range(random.choice((1, 100))):
            parent[key] = random.choice(([parent[key]], {"a": parent[key]}))
    elif change == "swap":
        other = random.choice(keys)
        parent[key], parent[other] = parent[other], parent[key]
    else:
        parent[f"{key}_"] = parent.pop(key)
    _store_json(layout, content)
    return Outcome("either")


def json_missing_box(random, layout):
    """Without a box that of the mask counts, and it must be the same here."""
    content = _json(layout)
    if content is None or not content.get("annotations"):
        return None
    random.choice(content["annotations"]).pop("bbox", None)
    _store_json(layout, content)
    return Outcome("read")


def json_harmless(random, layout):
    content = _json(layout)
    if content is None or not content.get("annotations"):
        return None
    change = random.choice(["strings", "floats", "no area", "info", "indent", "escapes", "order"])
    for annotation in content["annotations"]:
        if change in ("strings", "floats"):
            for key in ("image_id", "category_id"):
                annotation[key] = (str if change == "strings" else float)(annotation[key])
        if change == "no area":
            annotation.pop("area", None)
    if change == "info":
        content["info"] = {"x": [None, True, {"\u00e9": 1e308}]}
    if change == "order":
        content = dict(reversed(content.items()))
    layout.files["a.json"] = json.dumps(content, indent=3 if change == "indent" else None).encode()
    if change == "escapes":
        layout.files["a.json"] = layout.files["a.json"].replace(b'"cat"', b'"\\u0063at"')
    return Outcome("read")


def json_duplicate_key(random, layout):
    if _json(layout) is None:
        return None
    old, new = random.choice(
        [
            (b'"bbox": [', b'"bbox": [0, 0, 3, 3], "bbox": ['),
            (b'"category_id": 2', b'"category_id": 3, "category_id": 2'),
            (b'"images": [', b'"images": [], "images": ['),
            (b'"id": 5', b'"id": 5, "id": 6'),
        ]
    )
    if old not in layout.files["a.json"]:
        return Outcome("either")
    layout.files["a.json"] = layout.files["a.json"].replace(old, new, 1)
    return Outcome("refused")


def json_large_number(random, layout):
    """1e400 is infinite; digits without end, and nesting without end."""
    if _json(layout) is None:
        return None
    old, new = random.choice(
        [
            (b'"bbox": [', b'"bbox": [1e400, '),
            (b'"area": ', b'"area": 1e400'),
            (b'"bbox": ', b'"bbox": ' + b"[" * 5000 + b"]" * 5000 + b', "x": '),
            (b'"area": ', b'"area": ' + b"9" * 6000),
            (b'"area": ', b'"area": ' + b"9" * 400),
        ]
    )
    layout.files["a.json"] = layout.files["a.json"].replace(old, new, 1)
    return Outcome("refused")


def json_file_name(random, layout):
    content = _json(layout)
    if content is None or not content.get("images"):
        return None
    entry = random.choice(content["images"])
    stem = str(entry.get("file_name")).removesuffix(".jpg")
    fine = random.random() < 0.4
    if fine:
        entry["file_name"] = random.choice(["./{}.jpg", "../images/{}.jpg", ".\\{}.jpg"]).format(stem)
    else:
        entry["file_name"] = random.choice(["", ".", "..", "/", "a\0b.jpg", "x" * 5000, "\ud800.jpg", "/dev/zero",
                                            "\\" + "x" * 300, "nowhere/a.jpg", "a.jpg/b.jpg", "\\\0"])  # fmt: skip
    _store_json(layout, content)
    return Outcome("read" if fine else "refused", None if fine else stem)


def json_runs(random, layout):
    """The string of an RLE, changed."""
    content = _json(layout)
    annotations = [a for a in (content or {}).get("annotations", []) if isinstance(a.get("segmentation"), dict)]
    if not annotations:
        return None
    annotation = random.choice(annotations)
    counts = str(annotation["segmentation"].get("counts"))
    place = random.randrange(len(counts) + 1)
    annotation["segmentation"]["counts"], refused = random.choice(
        [
            (counts[:place], place < len(counts)),
            ("o" * 60_000, True),
            (counts + "o", True),
            (counts + "\u00ff", True),
            (counts[:place] + " " + counts[place:], True),
            (counts[:place] + random.choice("0123456789:;<=>?@PQRSTUVWXYZ[o") + counts[place:], False),
        ]
    )
    stem = _stem_of(content, annotation)
    _store_json(layout, content)
    return Outcome("refused" if refused else "either", stem)


# YOLO


def _lines(random, layout):
    stem = random.choice(list(OBJECTS))
    path = layout.annotations[stem]
    if not path.startswith("labels") or not _is_bytes(layout, path):
        return None
    lines = [line.split(b" ") for line in layout.files[path].splitlines() if line.strip()]

    def store():
        layout.files[path] = b"\n".join(b" ".join(words) for words in lines)

    return (stem, lines, store) if lines else None


def yolo_no_number(random, layout):
    if not (found := _lines(random, layout)):
        return None
    stem, lines, store = found
    words = random.choice(lines)
    new = random.choice([w for w in NO_NUMBERS if w != "1 2"])
    words[random.randrange(len(words))] = new.encode()
    store()
    return Outcome("refused", stem)


def yolo_odd_number(random, layout):
    if not (found := _lines(random, layout)):
        return None
    stem, lines, store = found
    words = random.choice(lines)
    words[random.randrange(len(words))] = random.choice([*ODD_NUMBERS, "1", "0.0", "-0.00001", "1.00001"]).encode()
    store()
    return Outcome("either", stem)


def yolo_another_count(random, layout):
    if not (found := _lines(random, layout)):
        return None
    stem, lines, store = found
    words = random.choice(lines)
    if random.random() < 0.5:
        words.pop(random.randrange(len(words)))
    else:
        words.append(b"0.5")
    store()
    return Outcome("refused", stem)


def yolo_another_class(random, layout):
    if not (found := _lines(random, layout)):
        return None
    stem, lines, store = found
    random.choice(lines)[0] = random.choice([b"2", b"-1", b"0.5", b"1e300", b"9" * 5000, b"nan", b"cat"])
    store()
    return Outcome("refused", stem)


def yolo_harmless(random, layout):
    if not (found := _lines(random, layout)):
        return None
    stem, lines, store = found
    for words in lines:
        words[0] = random.choice([b"%s", b"%s.0", b"  %s", b"%s\t"]) % words[0]
    lines.insert(0, [b""])
    store()
    return Outcome("read", stem)


BOMB = b"".join(b"x%d: &x%d [%s]\n" % (i, i, b", ".join([b"*x%d" % (i - 1)] * 9)) for i in range(1, 9))
YAML_REFUSED = [
    b'names: !!python/object/apply:os.system ["touch marker"]\n',
    b'names: [a, !!python/object/new:os.system ["touch marker"]]\n',
    b"names: !!python/name:os.system\n",
    b"x0: &x0 [a]\n" + BOMB + b"names: *x8\n",
    b"x0: &x0 {a: b}\n" + b"".join(
        b"x%d: &x%d\n  <<: [%s]\n" % (i, i, b", ".join([b"*x%d" % (i - 1)] * 9)) for i in range(1, 9)
    ) + b"names: *x8\n",
    b"names: &x [ant, *x]\n",
    b"names: [ant, cat]\nnames: [cat, ant]\n",
    b"names: {0: ant, 0: cat}\n",
    b"names: {0: ant, 1: cat, '1': dog}\n",
    b"names: {.inf: ant, 1: cat}\n",
    b"names: {.nan: ant, 1: cat}\n",
    b"names: {0: ant, 1.5: cat}\n",
    b"names: {no: ant, yes: cat}\n",
    b"names: {0: ant, [1]: cat}\n",
    b"names: {0: ant, 1: }\n",
    b"names: {0: ant, 1: yes}\n",
    b"names: [ant, [cat]]\n",
    b"names: [ant, 2001-99-99]\n",
    b"names: [ant, 2001-01-01]\n",
    b"names: !!int ''\n",
    b"names: !!int '-'\n",
    b"names: !!bool maybe\n",
    b"names: !!timestamp maybe\n",
    b"names: !!float maybe\n",
    b"names: !!binary \xe9\n",
    b"names: {0: ant, 1: !!int ''}\n",
    b"names: ant\n", b"names: 3\n", b"names:\n", b"names: []\n", b"names: {}\n", b"name: [ant, cat]\n",
    b"names: [ant, cat]\nnc: 3\n", b"names: [ant, cat]\nnc: x\n", b"names: [ant, cat]\nnc: [2]\n",
    b"names: [ant, cat]\nkpt_shape: 17\n", b"names: [ant, cat]\nkpt_shape: ab\n", b"names: [ant, cat]\nkpt_shape: [a]\n",
    b"names: [ant, cat]\nkpt_shape: [.nan]\n", b"names: [ant, cat]\nkpt_shape: [.inf, 2]\n",
    b"names: [ant, cat]\nkpt_shape: [-2, 2]\n", b"names: [ant, cat]\nkpt_shape: {a: 1}\n",
    b"names: [ant, ant]\n", b"names: [ant, background]\n", b'names: [ant, "\\uD800"]\n',
    b"[" * 5000, b"- a\n- b\n", b"names: [ant, cat\n", b"\0", b"names: [ant, cat]\n\tx: 1\n", b"a: b: c", b"*x",
    b"--- a\n--- b\n", b"%YAML 9.9\n---\nnames: [a]",
]  # fmt: skip
YAML_READ = [
    b"names: [ant, cat]\n",
    b"names: {'0': ant, '1': cat}\n",
    b"names: {1: cat, 0: ant}\nnc: 2\ntrain: ./images/train\nroboflow: {a: [1, null, 2001-01-01]}\n",
    b"names: &n [ant, cat]\nother: *n\nkpt_shape:\n",
    b"# x\nnames: [' ant', \"cat\"]\npath: /somewhere/else\ntrain: ../train/images\n",
    b"train: D:\\x\\y\nnames: [ant, cat]\n",
]
YAML_PLACES = [b".", b"", b"[]", b"{}", b"3", b"[images/train, 3]", b"nowhere", b"'a\\0b'", b'"a\\0b"',
               b"x" * 5000, b"{a: b}", b"[[images/train]]", b"images/train/a.jpg", b"data.yaml", b"yes", b"/dev/zero",
               b"labels/train", b"~", b"null", b".nan", b"2001-01-01", b'"\\uD800"']  # fmt: skip


def _is_yolo(layout):
    return layout.name in ("yolo", "polygons")


def yaml_refused(random, layout):
    if not _is_yolo(layout):
        return None
    layout.files["data.yaml"] = random.choice(YAML_REFUSED)
    return Outcome("refused")


def yaml_read(random, layout):
    if not _is_yolo(layout):
        return None
    layout.files["data.yaml"] = random.choice(YAML_READ)
    return Outcome("read")


def yaml_places(random, layout):
    if not _is_yolo(layout):
        return None
    place, path = random.choice(YAML_PLACES), random.choice([b"", b"", *YAML_PLACES])
    layout.files["data.yaml"] = b"names: [ant, cat]\ntrain: " + place + (b"\npath: " + path if path else b"") + b"\n"
    return Outcome("either")


def yolo_list_of_files(random, layout):
    if not _is_yolo(layout):
        return None
    odd = random.choice([b"", b"/", b"..", b".", b"a\0b", b"x" * 5000, b"\xff.jpg", b"images/train", b"nowhere.jpg",
                         b"\\", b"//", b"images/train/../train/a.jpg", b"/dev/zero", b"images/train/a.jpg"])  # fmt: skip
    layout.files["train.txt"] = b"\n".join([b"./images/train/a.jpg", b"images\\train\\b.jpg", odd, b"images/train/c.jpg"])
    layout.files["data.yaml"] = b"names: [ant, cat]\ntrain: train.txt\n"
    return Outcome("read" if odd == b"" else "either", "listed")


# Lists of VOC


def voc_line(random, layout):
    """A further line in the list of a split that names no picture; the others are read."""
    if layout.name != "voc" or not _is_bytes(layout, layout.shared[0]):
        return None
    odd = random.choice([b"/", b"..", b".", b"a\0b", b"x" * 5000, b"\xff", b"a b c", b"../a", b"/etc/passwd", b"\\",
                         b"nowhere", b"A", b'""', b"a.xml.xml", b"a/", b"//", b"-1", b"a 7"])  # fmt: skip
    lines = layout.files[layout.shared[0]].splitlines()
    lines.insert(random.randrange(len(lines) + 1), odd)
    layout.files[layout.shared[0]] = b"\n".join(lines)
    return Outcome("refused", "listed")


# Pictures


@cache
def _pictures():
    """What lies in place of a JPEG of 16 x 12 pixels: {name: (content, expected)}."""
    grey16 = io.BytesIO()
    Image.new("I;16", (WIDTH, HEIGHT), 4000).save(grey16, "PNG")
    moved = io.BytesIO()
    frames = [Image.new("P", (WIDTH, HEIGHT), i) for i in range(3)]
    frames[0].save(moved, "GIF", save_all=True, append_images=frames[1:], duration=10)
    floats = io.BytesIO()
    Image.new("F", (WIDTH, HEIGHT), 0.5).save(floats, "TIFF")
    colours = io.BytesIO()
    palette = Image.new("P", (WIDTH, HEIGHT), 1)
    palette.putpalette([0, 0, 0, 255, 255, 0])
    palette.save(colours, "PNG", transparency=b"\x80\x40")
    png, jpeg, gif = picture(kind="PNG"), picture(), picture("P", kind="GIF")
    bomb = zlib.compress(b"x" * 100_000_000, 9)
    exif = Image.Exif()
    exif[0x0112] = 3
    odd = Image.Exif()
    odd[0x0112] = 99
    words = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHI4sI", 1, 0x0112, 2, 3, b"up\0\0", 0)
    sideways = Image.Exif()
    sideways[0x0112] = 6
    app1 = b"\xff\xe1" + struct.pack(">H", 30) + b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(12)
    return {
        "png": (png, "read"),
        "bmp": (picture(kind="BMP"), "read"),
        "webp": (picture(kind="WEBP"), "read"),
        "tiff": (picture(kind="TIFF"), "read"),
        "cmyk": (picture("CMYK"), "read"),
        "grey": (picture("L"), "read"),
        "bits": (picture("1", kind="PNG"), "read"),
        "alpha": (picture("RGBA", kind="PNG"), "read"),
        "grey and alpha": (picture("LA", kind="PNG"), "read"),
        "16 bits": (grey16.getvalue(), "read"),
        "palette": (colours.getvalue(), "read"),
        "gif": (gif, "read"),
        "animation": (moved.getvalue(), "read"),
        "floats": (floats.getvalue(), "refused"),
        "text chunk": (_with_chunk(png, b"tEXt", b"Comment\0hello"), "read"),
        "text bomb": (_with_chunk(png, b"zTXt", b"Comment\0\0" + bomb), "either"),
        "profile bomb": (_with_chunk(png, b"iCCP", b"x\0\0" + bomb), "either"),
        "unknown chunk": (_with_chunk(png, b"abCd", bytes(99)), "read"),
        "wrong profile": (_with_chunk(png, b"iCCP", b"x\0\0junk"), "either"),
        "odd exif chunk": (_with_chunk(png, b"eXIf", b"MM\0*\xff\xff\xff\xff"), "either"),
        "animation chunk": (_with_chunk(png, b"acTL", bytes(8)), "either"),
        "comment": (jpeg[:2] + b"\xff\xfe\0\x07hello" + jpeg[2:], "read"),
        "corrupt exif": (jpeg[:2] + app1 + jpeg[2:], "either"),
        "xmp": (jpeg[:2] + b"\xff\xe1\0\x24http://ns.adobe.com/xap/1.0/\0<x/>" + jpeg[2:], "either"),
        "two pictures": (jpeg + jpeg, "read"),
        "behind": (jpeg + b"x" * 99, "read"),
        "turned by half": (picture(exif=exif), "read"),
        "turned by 99": (picture(exif=odd), "read"),
        "turned by words": (picture(exif=words), "read"),
        "sideways": (picture(exif=sideways), "sideways"),
        "progressive": (picture(progressive=True), "read"),
        "empty": (b"", "refused"),
        "text": (b"hello", "refused"),
        "html": (b"<!DOCTYPE html><html>404</html>", "refused"),
        "svg": (b"<svg xmlns='http://www.w3.org/2000/svg' width='16' height='12'/>", "refused"),
        "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 12\n%%EndComments\nshowpage\n", "refused"),
        "zeros": (bytes(5000), "refused"),
        "start alone": (jpeg[:4], "refused"),
        "one pixel": (picture(size=(1, 1)), "refused"),
        "flat": (picture(size=(2000, 7), kind="PNG"), "refused"),
        "long": (picture(size=(8, 2000), kind="PNG"), "another size"),
        "bomb header": (_resized(png, 60_000, 60_000), "refused"),
        "large header": (_resized(png, 9_000, 9_000), "refused"),
        "negative header": (_resized(png, 2**32 - 1, 12), "refused"),
        "no width": (_resized(png, 0, 12), "refused"),
        "gif header": (gif[:6] + struct.pack("<HH", 65535, 65535) + gif[10:], "refused"),
        "jpeg header": (_resized_jpeg(jpeg, 65_500, 65_500), "refused"),
    }


def _chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _with_chunk(png, kind, content):
    return png[:33] + _chunk(kind, content) + png[33:]  # behind the header


def _resized(png, width, height):
    return png[:8] + _chunk(b"IHDR", struct.pack(">II", width, height) + png[24:29]) + png[33:]


def _resized_jpeg(jpeg, width, height):
    place = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:place] + struct.pack(">HH", height, width) + jpeg[place + 4 :]


def another_picture(random, layout):
    stem = random.choice(list(OBJECTS))
    name = random.choice(list(_pictures()))
    content, expect = _pictures()[name]
    layout.files[layout.pictures[stem]] = content
    if expect == "sideways":  # the annotation's size tells that it was not turned; YOLO has none
        expect = "either" if layout.name in ("yolo", "polygons") else "read"
    if expect == "another size":
        expect = "either" if layout.name in ("yolo", "polygons") else "refused"
    return Outcome(expect, stem)


def cut_picture(random, layout):
    return _change_picture(random, layout, lambda c: c[: random.randrange(len(c))], "either")


def flipped_picture(random, layout):
    def flip(content):
        changed = bytearray(content)
        for _ in range(random.choice((1, 5))):
            changed[random.randrange(min(len(changed), random.choice((30, 5000))))] ^= 1 << random.randrange(8)
        return bytes(changed)

    return _change_picture(random, layout, flip, "either")


def _change_picture(random, layout, change, expect):
    stem = random.choice(list(OBJECTS))
    path = layout.pictures[stem]
    names = [name for name, (content, _) in _pictures().items() if 200 < len(content) < 5000]
    content = _pictures()[random.choice(names)][0]
    layout.files[path] = change(content)
    return Outcome(expect, stem)


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


MUTATIONS = [
    truncated, flipped_bits, inserted_bytes, repeated_part, emptied, byte_order_mark, crlf, utf_16, white_space_behind,
    something_else_there, a_link_instead, renamed, xml_no_number, xml_odd_number, xml_missing_or_renamed, xml_twice,
    xml_nested, xml_swapped_elements, xml_harmless, xml_entities, xml_encoding, json_no_number, json_odd_value,
    json_odd_value, json_odd_value, json_missing_box, json_harmless, json_duplicate_key, json_large_number,
    json_file_name, json_runs, yolo_no_number, yolo_odd_number, yolo_another_count, yolo_another_class, yolo_harmless,
    yaml_refused, yaml_refused, yaml_read, yaml_places, yolo_list_of_files, voc_line, another_picture, another_picture,
    cut_picture, flipped_picture, no_picture, other_files_beside,
]  # fmt: skip
