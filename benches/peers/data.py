"""Data prepared and read with pandas and Polars, as datasets/benches/data.rs does it.

Files of MovieLens 20M's size and layout become Arrow files: events in the order of person and time
with people and items numbered, people with the rows of their history and the positions of a
leave-one-out split, items with titles and genres. What ours does besides (checks of every cell, a
report of leakage, hashes of inputs and outputs) is left out here.
"""

import os
import random
import time
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.feather as feather

from timing import main

SOURCE = Path(os.environ["USER_LLM_BENCH_DATA"])
STORE = SOURCE.with_suffix(".peer-store")


def seconds(prepare):
    def measure(_settings):
        STORE.mkdir(exist_ok=True)
        start = time.perf_counter()
        prepare()
        return [time.perf_counter() - start]

    return measure


def prepare_pandas():
    events = pd.read_csv(SOURCE / "ratings.csv", engine="pyarrow")
    items = pd.read_csv(SOURCE / "movies.csv", engine="pyarrow")
    ids, user = np.unique(events["userId"].to_numpy(), return_inverse=True)
    item = pd.Index(items["movieId"]).get_indexer(events["movieId"])
    events = pd.DataFrame({
        "user": user.astype(np.int32),
        "item": item.astype(np.int32),
        "rating": events["rating"].to_numpy(np.float32),
        "timestamp": events["timestamp"].to_numpy(),
    })
    # Stable sorts from the last key to the first are faster than one by both.
    order = np.argsort(events["timestamp"].to_numpy(), kind="stable")
    order = order[np.argsort(events["user"].to_numpy()[order], kind="stable")]
    events = events.take(order)
    n_events = np.bincount(events["user"])
    is_split = n_events >= 3
    users = pd.DataFrame({
        "id": ids.astype(str),
        "first_event": np.cumsum(n_events) - n_events,
        "n_events": n_events,
        "n_train": np.where(is_split, n_events - 2, n_events),
        "validation": np.where(is_split, n_events - 2, -1),
        "test": np.where(is_split, n_events - 1, -1),
    })
    items["genres"] = items["genres"].str.split("|")
    for name, table in [("events", events), ("users", users), ("items", items)]:
        table = pa.Table.from_pandas(table, preserve_index=False)
        feather.write_feather(table, STORE / f"{name}.arrow", compression="uncompressed")


def prepare_polars():
    items = pl.read_csv(SOURCE / "movies.csv").with_row_index("item")
    events = pl.scan_csv(
        SOURCE / "ratings.csv",
        schema={"userId": pl.Int32, "movieId": pl.Int32, "rating": pl.Float32, "timestamp": pl.Int64},
    )
    numbers = items.lazy().select(pl.col("movieId").cast(pl.Int32), pl.col("item").cast(pl.Int32))
    events = (
        events.join(numbers, on="movieId", how="left", maintain_order="left")
        .sort("userId", "timestamp", maintain_order=True)
        .select(
            (pl.col("userId").rle_id()).cast(pl.Int32).alias("user"),
            "item", "rating", "timestamp", "userId",
        )
        .collect(engine="streaming")
    )
    n = pl.col("n_events")
    users = (
        events.group_by("userId", maintain_order=True)
        .agg(pl.len().cast(pl.Int64).alias("n_events"))
        .with_columns(
            (n.cum_sum() - n).alias("first_event"),
            pl.when(n >= 3).then(n - 2).otherwise(n).alias("n_train"),
            pl.when(n >= 3).then(n - 2).alias("validation"),
            pl.when(n >= 3).then(n - 1).alias("test"),
        )
    )
    events.drop("userId").write_ipc(STORE / "events.arrow", compression="uncompressed")
    users.write_ipc(STORE / "users.arrow", compression="uncompressed")
    items.with_columns(pl.col("genres").str.split("|")).write_ipc(
        STORE / "items.arrow", compression="uncompressed"
    )


def batches_pandas(settings):
    """A thousand batches of 64 windows of 50 events each, anywhere."""
    events = feather.read_table(STORE / "events.arrow", memory_map=True).to_pandas(
        split_blocks=True, self_destruct=True
    )
    users = feather.read_table(STORE / "users.arrow").to_pandas()
    first, n_events = users["first_event"].to_numpy(), users["n_events"].to_numpy()
    random.seed(1)
    n_batches = settings.size(1000, 10)
    start = time.perf_counter()
    for _ in range(n_batches):
        for _ in range(64):
            user = random.randrange(len(users))
            end = first[user] + random.randrange(n_events[user]) + 1
            events.iloc[max(first[user], end - 50) : end]
    return [(time.perf_counter() - start) * 1000 / n_batches]


if __name__ == "__main__":
    main({
        "prepare-20m-pandas": seconds(prepare_pandas),
        "prepare-20m-polars": seconds(prepare_polars),
        "batches-pandas": batches_pandas,
    })
