"""What the numbers were measured on."""
import datetime
import json
import os
import pathlib
import platform
import shutil
import subprocess

FLAGS = ["sse2", "avx", "fma", "f16c", "avx2", "avx512f", "avx512bw", "avx512_bf16", "amx_bf16", "erms", "fsrm",
         "asimd", "asimdhp", "bf16", "sve"]


def cpu():
    facts = {}
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    flags = facts.get("flags", facts.get("Features", "")).split()
    model = facts.get("model name", platform.machine())
    family = ", ".join(f"{key} {facts[key]}" for key in ("cpu family", "model", "stepping") if key in facts)
    return {"model": f"{model} ({family})" if family else model, "flags": [flag for flag in FLAGS if flag in flags]}


def caches():
    found = {}
    for folder in sorted(pathlib.Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
        found[f"L{level} {kind.lower()}"] = size
    return found


def memory():
    kilobytes = int(pathlib.Path("/proc/meminfo").read_text().split()[1])
    return f"{kilobytes / 2**20:.1f} GiB"


def huge_pages():
    path = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return path.read_text().strip() if path.exists() else "unknown"


def commit(folder):
    if not shutil.which("git"):
        return "unknown"
    done = subprocess.run(["git", "-C", folder, "describe", "--always", "--dirty"], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def describe(norma):
    printed = subprocess.run([norma, "version", "--json"], capture_output=True, text=True, check=True).stdout
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "caches": caches(),
        "memory": memory(),
        "huge_pages": huge_pages(),
        "kernel": f"{platform.system()} {platform.release()}",
        "load_at_start": os.getloadavg()[0],
        "norma": {**json.loads(printed), "commit": commit(pathlib.Path(__file__).parent)},
    }


def sentences(machine):
    """The description as lines of text."""
    caches_text = ", ".join(f"{name} {size}" for name, size in machine["caches"].items())
    norma = machine["norma"]
    return [
        f"{machine['cpu']['model']}, {machine['cores']} cores, {' '.join(machine['cpu']['flags'])}",
        f"{caches_text}; {machine['memory']} memory; {machine['kernel']}; huge pages {machine['huge_pages']}",
        f"norma {norma['version']} ({norma['commit']}), {norma['instruction_set']}, {norma['compiler']}",
        *machine.get("peers", {}).values(),
        f"{machine['date']}, load of the machine at the start {machine['load_at_start']:.2f}",
    ]
