import os

import cv2
import numpy as np
import pytest

from hcmoco.datasets.io.files import LEAVES, LINKED
from hcmoco.datasets.io.inventory import Inventory


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "über all"
    (root / "pictures").mkdir(parents=True)
    for name, extension in (("a.jpg", ".jpg"), ("b c.png", ".png"), ("ü.png", ".png")):
        (root / "pictures" / name).write_bytes(cv2.imencode(extension, np.zeros((4, 4, 3), np.uint8))[1].tobytes())
    return root


def reasons(folder, names, *formats):
    found = Inventory()
    found.check_files("pictures", folder, names, *formats)
    assert found.counts == {"pictures": len(dict.fromkeys(names))}
    return [(os.path.relpath(fault.path, folder), fault.reason) for fault in found.faults]


def test_what_is_there_is_no_fault(folder):
    names = ["pictures/a.jpg", "pictures/b c.png", "pictures/ü.png", "pictures/a.jpg"]
    assert reasons(folder, names, "JPEG", "PNG") == []


def test_every_fault_is_named_in_the_order_asked(folder):
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("moved elsewhere, see the web page")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "out.png").symlink_to("/etc/hostname")
    wanted = [
        "missing.png",
        "pictures",
        "empty.png",
        "text.png",
        "pictures/a.jpg",
        "loop",
        "out.png",
        "../x.png",
        "/etc/hostname",
        "a\0b",
    ]
    found = reasons(folder, wanted, "PNG")
    assert [name for name, _ in found][:6] == wanted[:6]
    assert [reason for _, reason in found][:5] == [
        "does not exist",
        "is not a regular file",
        "is empty",
        "is not PNG",
        "is not PNG",
    ]
    assert [reason for _, reason in found][6:9] == [LINKED, LEAVES, LEAVES]
    assert len(found) == len(wanted)


def test_a_file_that_may_not_be_read(folder):
    path = folder / "pictures" / "a.jpg"
    path.chmod(0)
    expected = [] if os.geteuid() == 0 else [("pictures/a.jpg", "cannot be read: Permission denied")]
    assert reasons(folder, ["pictures/a.jpg"], "JPEG") == expected
