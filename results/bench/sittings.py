#!/usr/bin/env python3
"""Takes `cargo xtask bench cpu` and PyTorch in turn and writes cpu_sittings.csv, cpu.csv and cpu.md beside this file. Another kind of machine has
tables of its own: `--table cpu_avx2` for both commands.

    python3 -m venv peers && peers/bin/pip install torch==2.11.0
    cargo build --release --package runner
    python3 results/bench/sittings.py take --python peers/bin/python --sittings 3 --threads 1 2
    python3 results/bench/sittings.py join

`take` appends: for each sitting, number of threads and family of operations the three programs run one directly after the other, so that
what else the machine does meanwhile falls on all of them alike. `join` makes the table: medians of the times, and of the ratios of each
sitting, not ratios of medians.
"""
import argparse
import csv
import os
import pathlib
import statistics
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FAMILIES = [
    "matmul/", "conv2d/", "group_norm_silu/", "layer_norm/", "attention/", "geglu/",
    "upsample_nearest2x/", "batch_norm/", "diffgrad/", "adam/", "copy/",
]
# Run where it is named alone (`--only unet_`): it takes diffusers, 4 GB and minutes, and candle's is a program of its own.
UNET = "unet_"
COLUMNS = ["sitting", "threads", "name", "ours_ms", "candle_ms", "pytorch_ms", "machine"]


def times(command, threads):
    environment = {**os.environ, "RAYON_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{done.stderr}")
    return {row["name"]: row["median_ms"] for row in csv.DictReader(done.stdout.splitlines())}


def machine():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    flags = next(line for line in lines if line.startswith("flags"))
    return f"{model}{' AVX-512' if 'avx512f' in flags else ''}"


def chosen(only):
    return [family for family in [*FAMILIES, UNET] if (family.startswith(tuple(only)) if only else family != UNET)]


def candle_unet(typed, threads):
    """The program in tools/bench/candle-unet, which prints a line a repetition."""
    if not typed.candle_unet:
        return {}
    environment = {**os.environ, "RAYON_NUM_THREADS": str(threads), "CANDLE_NUM_THREADS": str(threads)}
    done = subprocess.run([typed.candle_unet, str(typed.candle_reps)], capture_output=True, text=True, env=environment, check=True)
    lines = [line.split(",") for line in done.stdout.splitlines()]
    return {lines[0][0]: statistics.median(float(ms) for _, ms in lines)}


def take(typed):
    runner = [typed.runner, "bench", "cpu"]
    sittings = HERE / f"{typed.table}_sittings.csv"
    new = not sittings.exists()
    with sittings.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        for sitting in range(typed.first, typed.first + typed.sittings):
            for threads in typed.threads:
                for family in chosen(typed.only):
                    common = ["--only", family, "--threads", str(threads)]
                    reps = ["--reps", str(typed.reps)]
                    ours = times([*runner, *common, *reps], threads)
                    torch = times([typed.python, HERE / "torch_cpu.py", *common, *reps], threads)
                    candle = {}
                    if family == UNET:
                        candle = candle_unet(typed, threads)
                    elif typed.candle_reps and family not in ("diffgrad/", "adam/", "copy/", "upsample_nearest2x/"):
                        # It takes long, and its share is plain from few runs.
                        few = ["--reps", str(typed.candle_reps), "--implementation", "candle"]
                        candle = times([*runner, *common, *few], threads)
                    for name, ms in ours.items():
                        row = [sitting, threads, name, ms, candle.get(name, ""), torch.get(name, ""), machine()]
                        writer.writerow(dict(zip(COLUMNS, row)))
                    file.flush()


def ratio(rows, column):
    return [float(row[column]) / float(row["ours_ms"]) for row in rows if row[column]]


def median(values, digits):
    return round(statistics.median(values), digits) if values else ""


def join(typed):
    rows = list(csv.DictReader((HERE / f"{typed.table}_sittings.csv").open()))
    keys = dict.fromkeys((row["name"], row["threads"]) for row in rows)
    with (HERE / f"{typed.table}.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([
            "name", "threads", "ours_ms", "candle_ms", "pytorch_ms", "candle_over_ours", "pytorch_over_ours",
            "lowest_pytorch_over_ours", "sittings", "machine",
        ])
        for name, threads in keys:
            of = [row for row in rows if (row["name"], row["threads"]) == (name, threads)]
            column = lambda key: median([float(row[key]) for row in of if row[key]], 4)
            against = ratio(of, "pytorch_ms")
            writer.writerow([
                name, threads, column("ours_ms"), column("candle_ms"), column("pytorch_ms"),
                median(ratio(of, "candle_ms"), 2), median(against, 2), round(min(against), 2) if against else "",
                len(of), of[0]["machine"],
            ])
    page(typed.table)


def page(table):
    """The table to read, as Markdown. A ratio below 1, where PyTorch is faster, is bold."""
    rows = list(csv.DictReader((HERE / f"{table}.csv").open()))
    threads = sorted({row["threads"] for row in rows}, key=int)
    found = {(row["name"], row["threads"]): row for row in rows}
    head = [f"{t} thread{'s' * (t != '1')}: ms | PyTorch / ours (lowest) | candle / ours" for t in threads]
    lines = ["| case | " + " | ".join(head) + " |", "|---|" + "---:|" * (3 * len(threads))]
    for name in dict.fromkeys(row["name"] for row in rows):
        cells = [f"`{name}`"]
        for t in threads:
            row = found.get((name, t))
            if row is None:
                cells += ["", "", ""]
                continue
            against, lowest = row["pytorch_over_ours"], row["lowest_pytorch_over_ours"]
            mark = "**" if against and float(against) < 1 else ""
            cells += [row["ours_ms"], f"{mark}{against}{mark} ({lowest})" if against else "", row["candle_over_ours"]]
        lines.append("| " + " | ".join(cells) + " |")
    machines = "; ".join(sorted({row["machine"] for row in rows}))
    (HERE / f"{table}.md").write_text(f"# CPU, `f32`\n\n{machines}. How it was taken: [README.md](README.md).\n\n" + "\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    taking = commands.add_parser("take")
    taking.add_argument("--python", required=True, help="a Python that has torch")
    taking.add_argument("--runner", default=str(ROOT / "target/release/runner"), help="the program that is timed")
    taking.add_argument("--sittings", type=int, default=3)
    taking.add_argument("--first", type=int, default=1, help="number of the first sitting")
    taking.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    taking.add_argument("--reps", type=int, default=5)
    taking.add_argument("--candle-reps", type=int, default=1)
    taking.add_argument("--candle-unet", help="the program of tools/bench/candle-unet")
    taking.add_argument("--only", nargs="*", help="families, such as conv2d/")
    taking.set_defaults(run=take)
    joining = commands.add_parser("join")
    joining.set_defaults(run=join)
    for command in (taking, joining):
        command.add_argument("--table", default="cpu", help="name of the tables")
    typed = parser.parse_args()
    typed.run(typed)


if __name__ == "__main__":
    main()
