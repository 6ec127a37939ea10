"""A prepared store as other programs see it, and one that pyarrow wrote, as we see it.

    cargo build --release --bin user-llm
    $(bash scripts/data_venv.sh) scripts/check_store.py FOLDER_OF_MOVIELENS [USER_LLM]

Prepares the folder, counts its events with pyarrow, pandas, Polars and DuckDB, writes the same
tables with pyarrow into another folder, has that sealed, pretrains an encoder for some steps on each
store, and compares. USER_LLM is the program, target/release/user-llm if not given.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.feather as feather
from store_schema import SCHEMA

ROOT = Path(__file__).parent.parent


# Small, because it is the way to the weights that is checked.
RUN = [
    "data.history_len=20", "encoder.max_length=20", "pretraining.batch_size=16",
    "pretraining.steps=12", "pretraining.validate_every=6", "pretraining.validation_users=99",
]


def run(program, *arguments):
    command = [program, *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def pretrained(program, store):
    """The hash of the weights that some steps of pretraining on a store give."""
    patches = [word for patch in RUN for word in ("--set", patch)]
    folder = store.with_suffix(".run")
    config = ROOT / "configs/encoder/ml-1m/sasrec-ce.toml"
    run(program, "pretrain", "--config", config, "--data", store, "--run", folder, *patches)
    return hashlib.sha256((folder / "encoder.safetensors").read_bytes()).hexdigest()


def main(source, program=ROOT / "target/release/user-llm"):
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder, "ours"), Path(folder, "theirs")
        printed = run(program, "data", "prepare", source, "--out", ours)
        tables = {name: feather.read_table(ours / f"{name}.arrow", memory_map=True) for name in SCHEMA}
        for name, table in tables.items():
            assert table.schema.names == SCHEMA[name].names, table.schema
            assert table.schema.types == SCHEMA[name].types, table.schema
        events, n_items = tables["events"], tables["items"].num_rows
        per_item = {
            "pandas": events.to_pandas().groupby("item").size().to_dict(),
            "Polars": dict(pl.scan_ipc(ours / "events.arrow").group_by("item").len().collect().iter_rows()),
            "DuckDB": dict(duckdb.sql("select item, count(*) from events group by item").fetchall()),
        }
        assert per_item["pandas"] == per_item["Polars"] == per_item["DuckDB"]
        assert sum(per_item["DuckDB"].values()) == events.num_rows
        print(f"pandas, Polars and DuckDB: {events.num_rows} events of {len(per_item['Polars'])} of {n_items} items")

        theirs.mkdir()
        for name, table in tables.items():
            # As from pandas: other types, and batches of another size.
            frame = pa.Table.from_pandas(table.to_pandas(), schema=SCHEMA[name], preserve_index=False)
            feather.write_feather(frame, theirs / f"{name}.arrow", compression="uncompressed", chunksize=1000)
        sealed = run(program, "data", "seal", theirs, "--name", "theirs")
        counts = sealed.splitlines()[0].split(": ")[1]
        assert counts == printed.splitlines()[0].split(": ")[1], (sealed, printed)
        locks = [json.loads((path / "data.lock").read_text()) for path in (ours, theirs)]
        assert all(locks[0][key] == locks[1][key] for key in ("version", "users", "items", "events"))
        print("written by pyarrow and sealed:", counts)
        assert pretrained(program, ours) == pretrained(program, theirs)
        print("pretrained on both: the same weights")


if __name__ == "__main__":
    main(*(Path(argument).resolve() for argument in sys.argv[1:]))
