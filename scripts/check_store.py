"""A prepared store as other programs see it, and one that pyarrow wrote, as we see it.

    $(bash scripts/data_venv.sh) scripts/check_store.py FOLDER_OF_MOVIELENS

Prepares the folder, counts its events with pyarrow, pandas, Polars and DuckDB, writes the same
tables with pyarrow into another folder, has that sealed, and compares. Needs cargo.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.feather as feather

ROOT = Path(__file__).parent.parent
SCHEMA = {  # docs/store.md
    "events": pa.schema([("user", pa.int32()), ("item", pa.int32()), ("rating", pa.float32()), ("timestamp", pa.int64())]),
    "users": pa.schema([
        ("id", pa.utf8()), ("first_event", pa.int64()), ("n_events", pa.int32()),
        ("n_train", pa.int32()), ("validation", pa.int32()), ("test", pa.int32()),
    ]),
    "items": pa.schema([("id", pa.utf8()), ("title", pa.utf8()), ("year", pa.int32()), ("genres", pa.list_(pa.int32()))]),
    "genres": pa.schema([("name", pa.utf8())]),
    "ratings": pa.schema([("value", pa.float32())]),
}


def store(*arguments):
    command = ["cargo", "run", "--release", "--quiet", "-p", "datasets"]
    command += ["--example", "store", "--", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def main(source):
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder, "ours"), Path(folder, "theirs")
        printed = store("prepare", source, ours, 64)
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
        assert store("seal", theirs).splitlines()[0] == printed.splitlines()[0]
        locks = [json.loads((path / "data.lock").read_text()) for path in (ours, theirs)]
        assert all(locks[0][key] == locks[1][key] for key in ("version", "users", "items", "events"))
        print("written by pyarrow and sealed:", printed.splitlines()[0])


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
