"""The results as lines of text, as Markdown and as a chart."""
import statistics

import machine
import workloads

TITLES = {"norma": "norma", "torch": "PyTorch", "norma.torch": "norma.torch", "compile": "torch.compile",
          "onnxruntime": "ONNX Runtime", "onednn": "oneDNN"}
# Okabe and Ito's colours, told apart by all kinds of colour vision, and a shape for each for print without colour.
MARKERS = {"norma": ("#0072B2", "o"), "torch": ("#D55E00", "s"), "norma.torch": ("#56B4E9", "P"),
           "compile": ("#CC79A7", "^"),
           "onnxruntime": ("#009E73", "D"), "onednn": ("#E69F00", "v")}


def judge(row, rows):
    """Adds what the target is compared with, and whether it is met."""
    target = row["target"]
    if target.endswith("us"):
        value, limit = row["seconds"]["norma"]["median"] * 1e6, float(target[:-2])
    elif target.endswith("xf32"):
        twin = [other for other in rows if other["threads"] == row["threads"] and
                other["problem"] == workloads.float32_twin(row["problem"])]
        value = row["seconds"]["norma"]["median"] / twin[0]["seconds"]["norma"]["median"] if twin else None
        limit = float(target[:-4])
    else:
        value, limit = row["ratio"]["median"], float(target)
    row["value"], row["met"] = value, None if value is None else value <= limit


def verdict(row):
    return {True: "met", False: "missed", None: "no f32 row"}[row["met"]]


def time_text(seconds):
    return f"{seconds * 1e6:.4g} us" if seconds < 1e-3 else f"{seconds * 1e3:.4g} ms"


def cells(row, peers):
    """Name, threads, norma's time, the floor's, norma's ratio, target, verdict, and the ratio of each peer."""
    others = [f"{row['peers'][name]['ratio']:.2f}" if name in row["peers"] else "" for name in peers]
    value = "" if row["value"] is None or row["target"][-1].isdigit() and "x" not in row["target"] \
        else f" ({row['value']:.2f})"
    return [row["name"], str(row["threads"]), time_text(row["seconds"]["norma"]["median"]),
            time_text(row["seconds"]["floor"]["median"]), f"{row['ratio']['median']:.2f}", row["target"],
            verdict(row) + value, *others]


def columns(chosen, peers):
    names = ["row", "threads", "norma", "floor", "norma / floor", "target", ""]
    names += [f"{TITLES[peer]} / floor" for peer in peers]
    widths = [max([len(w.name) for w in chosen] + [3]), 7, 9, 9, 13, 8, 16, *(len(n) for n in names[7:])]
    return names, widths


def align(texts, widths):
    return "  ".join(f"{text:<{width}}" if i in (0, 6) else f"{text:>{width}}"
                     for i, (text, width) in enumerate(zip(texts, widths))).rstrip()


def heading(chosen, peers):
    return align(*columns(chosen, peers))


def line(row, chosen, peers):
    return align(cells(row, peers), columns(chosen, peers)[1])


def seconds_of(row, program):
    """The median time; None where the program has no such row."""
    if program == "norma":
        return row["seconds"]["norma"]["median"]
    return row["peers"][program]["median"] if program in row["peers"] else None


def comparison(rows, program, peer, direction):
    pairs = [(seconds_of(row, program), seconds_of(row, peer)) for row in rows if row["direction"] == direction]
    times = [theirs / ours for ours, theirs in pairs if ours and theirs]
    if not times:
        return None
    slower = sum(factor < 1 for factor in times)
    return f"{statistics.geometric_mean(times):.2f} times as fast {direction}, slower on {slower} of {len(times)} rows"


def summary(results):
    """A sentence for each peer and number of threads: geometric means over the rows that both have."""
    peers = list(results["machine"]["peers"])
    pairs = [("norma", peer) for peer in peers if peer != "norma.torch"]
    if "torch" in peers and "norma.torch" in peers:
        pairs.append(("norma.torch", "torch"))
    text = []
    for threads in sorted({row["threads"] for row in results["rows"]}):
        rows = [row for row in results["rows"] if row["threads"] == threads]
        for program, peer in pairs:
            found = [said for said in (comparison(rows, program, peer, way) for way in ("fwd", "bwd")) if said]
            if found:
                text.append(f"{TITLES[program]} beside {TITLES[peer]}, threads {threads}: {'; '.join(found)}")
    return text


def markdown(results):
    peers = list(results["machine"]["peers"])
    names, _ = columns([], peers)
    text = [f"- {sentence}" for sentence in machine.sentences(results["machine"])]
    text += ["", "| " + " | ".join(names) + " |", "|---|" + "---:|" * (len(names) - 1)]
    text += ["| " + " | ".join(cells(row, peers)) + " |" for row in results["rows"]]
    text += [""] + [f"- {sentence}" for sentence in summary(results)]
    text += [""] + [f"Skipped: {row['name']}: {row['why']}" for row in results["skipped"]]
    return "\n".join(text).rstrip() + "\n"


def chart(results, path):
    """A column of rows for each number of threads: the time over that of the floor, on a logarithmic axis."""
    import matplotlib
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "norma"
    from matplotlib import pyplot, ticker
    counts = sorted({row["threads"] for row in results["rows"]})
    names = list(dict.fromkeys(row["name"] for row in results["rows"]))
    figure, panels = pyplot.subplots(1, len(counts), sharey=True, squeeze=False, layout="constrained",
                                     figsize=(4.2 + 4.2 * len(counts), 1.6 + 0.2 * len(names)))
    for panel, threads in zip(panels[0], counts):
        rows = [row for row in results["rows"] if row["threads"] == threads]
        panel.axvline(1, color="black", linewidth=1.2, label="streaming floor")
        for program in ["norma", *results["machine"]["peers"]]:
            points = [(row["ratio"]["median"] if program == "norma" else row["peers"][program]["ratio"],
                       names.index(row["name"])) for row in rows if program == "norma" or program in row["peers"]]
            colour, shape = MARKERS[program]
            panel.scatter([x for x, _ in points], [y for _, y in points], s=34 if program == "norma" else 22, c=colour,
                          marker=shape, label=TITLES[program], zorder=4 if program == "norma" else 3, linewidths=0)
        panel.set_xscale("log")
        left, right = panel.get_xlim()
        panel.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5) if right / left < 200 else (1,)))
        panel.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        panel.xaxis.set_minor_formatter(ticker.NullFormatter())
        panel.set_xlabel("time / time of the streaming floor (ratio of medians, log scale)")
        panel.set_title(f"{threads} thread" + ("s" if threads > 1 else ""))
        panel.grid(axis="x", color="0.85", linewidth=0.6)
        panel.grid(axis="y", color="0.93", linewidth=0.6)
        panel.set_axisbelow(True)
    panels[0][0].set_yticks(range(len(names)), names, fontsize=8)
    panels[0][0].set_ylim(len(names) - 0.4, -0.6)
    panels[0][0].set_ylabel("layer, shape, memory layout, direction")
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=6, frameon=False)
    figure.savefig(path)
    figure.savefig(path.with_suffix(".png"), dpi=80)
    pyplot.close(figure)
