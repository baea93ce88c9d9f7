"""Mutations of the lines of YOLO's labels, and of data.yaml."""

from tests.data.fuzz_folders import OBJECTS, Outcome, is_bytes
from tests.data.fuzz_xml import NO_NUMBERS, ODD_NUMBERS


def _lines(random, layout):
    stem = random.choice(list(OBJECTS))
    path = layout.annotations[stem]
    if not path.startswith("labels") or not is_bytes(layout, path):
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
    b"names: [ant, cat]\nkpt_shape: 17\n", b"names: [ant, cat]\nkpt_shape: ab\n",
    b"names: [ant, cat]\nkpt_shape: [a]\n",
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
    odd = random.choice([b"", b"/", b"..", b".", b"a\0b", b"x" * 5000, b"\xff.jpg", b"images/train", b"\\",
                         b"nowhere.jpg", b"//", b"images/../images/train/a.jpg", b"/dev/zero"])  # fmt: skip
    layout.files["train.txt"] = b"\n".join(
        [b"./images/train/a.jpg", b"images\\train\\b.jpg", odd, b"images/train/c.jpg"]
    )
    layout.files["data.yaml"] = b"names: [ant, cat]\ntrain: train.txt\n"
    return Outcome("read" if odd == b"" else "either", "listed")
