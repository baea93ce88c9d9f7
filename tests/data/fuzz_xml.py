"""Mutations of the fields of VOC's annotations."""

import xml.etree.ElementTree as ET

from tests.data.fuzz_folders import OBJECTS, Outcome, is_bytes

NO_NUMBERS = ["nan", "-nan", "inf", "-inf", "Infinity", "1e400", "1e9999999", "-1e99999999999", "0x10", "1_0", "1,5",
              "", "abc", "true", "1 2", "[3]", "\u00e9", "--1", "1e"]  # fmt: skip
ODD_NUMBERS = ["-5", "1e30", "-1e30", "0", "1e-300", "7.25", "+3", "007", " 5 ", "3.", "1e1", "99999999999999999999"]


def _tree(random, layout):
    """The tree of one annotation and the function that puts it back; None where it is none any more."""
    stem = random.choice(list(OBJECTS))
    path = layout.annotations[stem]
    if not path.endswith(".xml") or not is_bytes(layout, path):
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
    root.insert(
        random.randrange(len(root) + 1), random.choice([ET.Comment("x"), ET.Element("pose"), ET.Element("part")])
    )
    for number in root.findall("object/bndbox/*"):
        number.text = random.choice([" {} ", "{}.0", "\n{}\n"]).format(number.text)
    store()
    return Outcome("read", stem)


def xml_entities(random, layout):
    """Billion laughs, and what would read other files."""
    stem = random.choice(list(OBJECTS))
    path = layout.annotations[stem]
    if not path.endswith(".xml") or not is_bytes(layout, path):
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
    if not path.endswith(".xml") or not is_bytes(layout, path):
        return None
    layout.files[path] = layout.files[path].replace(b"'utf-8'", f"'{encoding}'".encode())
    return Outcome("either", stem)
