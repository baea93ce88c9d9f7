"""Mutations of the fields of COCO's file."""

import json

from tests.data.fuzz_folders import HEIGHT, WIDTH, Outcome, is_bytes

HUGE = 10**400


def _json(layout):
    if layout.name != "coco" or not is_bytes(layout, "a.json"):
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
