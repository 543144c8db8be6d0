"""The rows of workloads.txt, and problem strings as peers and reports need them."""
import dataclasses
import pathlib
import re

FILE = pathlib.Path(__file__).resolve().with_name("workloads.txt")
LAYOUTS = {"nchw": "contiguous", "ncdhw": "contiguous", "contiguous": "contiguous",
           "nhwc": "channels_last", "ndhwc": "channels_last", "channels_last": "channels_last"}


@dataclasses.dataclass(frozen=True)
class Workload:
    problem: str
    name: str
    target: str
    quick: bool

    @property
    def small(self):
        """A call that is too short for the clock: its target is a time, and it is measured in a loop."""
        return self.target.endswith("us")


def read(path=FILE):
    rows = []
    for line in path.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            cells = [cell.strip() for cell in line.split("|")]
            if len(cells) < 3 or cells[3:] not in ([], ["quick"]):
                raise ValueError(f"{path.name}: '{line}' is not 'problem | name | target' or that and '| quick'")
            rows.append(Workload(*cells[:3], quick=len(cells) > 3))
    return rows


@dataclasses.dataclass(frozen=True)
class Problem:
    """A problem string taken apart, as far as the rows of workloads.txt go."""
    kind: str
    names: tuple
    shape: tuple
    keys: dict

    @property
    def layout(self):
        return LAYOUTS[self.keys.get("layout", "contiguous")]

    @property
    def type(self):
        return self.keys.get("type", "f32")

    @property
    def backward(self):
        return self.keys.get("dir", "fwd") == "bwd"

    @property
    def given(self):
        return self.keys.get("stats") == "given"


def take_apart(text):
    kind, items = text.split(":", 1)
    dimensions, keys = [], {}
    for item in items.split(","):
        dimension = re.fullmatch(r"([a-z]+)(\d+)", item)
        if dimension:
            dimensions.append((dimension[1], int(dimension[2])))
        else:
            key, value = item.split("=", 1)
            keys[key] = value
    return Problem(kind, tuple(name for name, _ in dimensions), tuple(length for _, length in dimensions), keys)


def float32_twin(text):
    """The string of the same row in float32: what a target such as 0.65xf32 compares with."""
    kind, items = text.split(":", 1)
    return kind + ":" + ",".join(item for item in items.split(",") if not item.startswith("type="))
