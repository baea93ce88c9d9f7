"""What can happen to a folder: the mutations of the fuzzer, and what each of them may lead to.

A mutation changes `layout.files` and returns an `Outcome`: "read" (all is read as before), "refused" (the error names
the folder; with on_error="skip" the picture is left out, where a single one is hit), or "either" (both are right; what
is read is compared with the independent reading).
"""

from tests.data.fuzz_files import (
    a_link_instead,
    byte_order_mark,
    crlf,
    emptied,
    flipped_bits,
    inserted_bytes,
    no_picture,
    other_files_beside,
    renamed,
    repeated_part,
    something_else_there,
    truncated,
    utf_16,
    voc_line,
    white_space_behind,
)
from tests.data.fuzz_json import (
    json_duplicate_key,
    json_file_name,
    json_harmless,
    json_large_number,
    json_missing_box,
    json_no_number,
    json_odd_value,
    json_runs,
)
from tests.data.fuzz_pictures import another_picture, cut_picture, flipped_picture
from tests.data.fuzz_xml import (
    xml_encoding,
    xml_entities,
    xml_harmless,
    xml_missing_or_renamed,
    xml_nested,
    xml_no_number,
    xml_odd_number,
    xml_swapped_elements,
    xml_twice,
)
from tests.data.fuzz_yolo import (
    yaml_places,
    yaml_read,
    yaml_refused,
    yolo_another_class,
    yolo_another_count,
    yolo_harmless,
    yolo_list_of_files,
    yolo_no_number,
    yolo_odd_number,
)

MUTATIONS = [
    truncated, flipped_bits, inserted_bytes, repeated_part, emptied, byte_order_mark, crlf, utf_16, white_space_behind,
    something_else_there, a_link_instead, renamed, xml_no_number, xml_odd_number, xml_missing_or_renamed, xml_twice,
    xml_nested, xml_swapped_elements, xml_harmless, xml_entities, xml_encoding, json_no_number, json_odd_value,
    json_odd_value, json_odd_value, json_missing_box, json_harmless, json_duplicate_key, json_large_number,
    json_file_name, json_runs, yolo_no_number, yolo_odd_number, yolo_another_count, yolo_another_class, yolo_harmless,
    yaml_refused, yaml_refused, yaml_read, yaml_places, yolo_list_of_files, voc_line, another_picture, another_picture,
    cut_picture, flipped_picture, no_picture, other_files_beside,
]  # fmt: skip
