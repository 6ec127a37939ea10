"""The tables of a prepared store, as docs/store.md has them, for who writes them with pyarrow."""

import pyarrow as pa

SCHEMA = {
    "events": pa.schema([("user", pa.int32()), ("item", pa.int32()), ("rating", pa.float32()), ("timestamp", pa.int64())]),
    "users": pa.schema([
        ("id", pa.utf8()), ("first_event", pa.int64()), ("n_events", pa.int32()),
        ("n_train", pa.int32()), ("validation", pa.int32()), ("test", pa.int32()),
    ]),
    "items": pa.schema([("id", pa.utf8()), ("title", pa.utf8()), ("year", pa.int32()), ("genres", pa.list_(pa.int32()))]),
    "genres": pa.schema([("name", pa.utf8())]),
    "ratings": pa.schema([("value", pa.float32())]),
}
