"""The tables of a prepared store (docs/store.md), made of MovieLens by plans on a Ballista cluster.

    python prepare.py FOLDER_OF_MOVIELENS WORK [--min-interactions N] [--min-history N]

Writes the folder WORK/theirs and WORK/origin.json, for `datasets`' example `store rewrite`. The
scheduler is at port 50050, and every process sees both folders under these paths: tables on their way
are Parquet in WORK/shared. This process does what executors do not do: unpack a text, make UTF-8 of
latin-1, and write Arrow's files (Ballista has no plan for that, and its sinks write in no order).
"""

import argparse
import gzip
import hashlib
import json
import shutil
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
from ballista import BallistaSessionContext
from datafusion import CsvReadOptions
from store_schema import SCHEMA

SETTINGS = {
    # Lines are numbered as they come, which parts of a file that are read at once do not.
    "datafusion.optimizer.repartition_file_scans": "false",
    "datafusion.execution.target_partitions": "4",
}
RATINGS = ["person", "item", "rating", "time"]
NOTHING = "\x01"  # Quotes nothing; no file has it.
# Those of `datasets::titles`.
ARTICLES = (
    "The|A|An|Le|La|Les|Un|Une|El|Los|Las|Una|Il|Lo|I|Gli|Uno|Der|Die|Das|Ein|Eine|De|Het|Een|"
    "Den|Det|En|Ett|Et|O|Os|As|Um|Uma"
)
ELIDED = "L''|L’"


class Release:
    """The text files of a release as tables, in one form: `ratings_file` and what `films` selects."""

    def __init__(self, context, folder, shared):
        self.context, self.folder, self.shared = context, folder, shared
        self.n_latin1 = 0
        self.time_is_rank = False
        self.genres = None  # A query of their `name`s, where there is a list of them.
        # Of a file and what was packed of it, the file.
        names = {path.name.removesuffix(".gz"): path.name for path in sorted(folder.iterdir(), reverse=True)}
        for ratings, register in {
            "u.data": self.hundred_k,
            "ratings.dat": self.dat,
            "ratings.rank.dat": self.dat,
            "ratings.csv": self.csv,
        }.items():
            if ratings in names:
                register(names[ratings])
                return
        sys.exit(f"{folder} has no u.data, ratings.dat or ratings.csv")

    def hundred_k(self, ratings):
        self.files = ["u.genre", "u.item", ratings]
        self.register("ratings_file", self.unpacked(ratings), RATINGS, "\t")
        self.register("genres_file", self.folder / "u.genre", ["name", "number"], "|")
        self.genres = "select name from genres_file"
        lines = (self.folder / "u.genre").read_text().splitlines()
        names = [line.split("|")[0].replace("'", "''") for line in lines if line]
        flags = [f"genre{n}" for n in range(len(names))]
        columns = ["id", "raw", "released", "video", "address", *flags]
        self.register("films_file", self.as_utf8("u.item"), columns, "|")
        cases = [f"case when {flag} = '1' then '{name}' end" for flag, name in zip(flags, names)]
        self.films = f"select id, raw, concat_ws('|', {', '.join(cases)}) as genres from films_file"

    def dat(self, ratings):
        self.files = ["movies.dat", ratings]
        self.time_is_rank = ratings.startswith("ratings.rank.")
        # DataFusion's separator is one byte, so that between two fields there is an empty one.
        columns = ["person", "gap1", "item", "gap2", "rating", "gap3", "time"]
        self.register("ratings_file", self.unpacked(ratings), columns, ":")
        self.register("films_file", self.as_utf8("movies.dat"), ["line"], "\x02")
        # A title may hold the separator; an id and genres may not.
        form = "'^(.*?)::(.*)::(.*)$'"
        id, raw, genres = (f"regexp_replace(line, {form}, '\\{n}')" for n in (1, 2, 3))
        self.films = f"""select case when regexp_like(line, {form}) then {id} end as id,
            {raw} as raw, {genres} as genres from films_file"""

    def csv(self, ratings):
        self.files = ["movies.csv", ratings]
        header = "userId,movieId,rating,timestamp"
        self.register("ratings_file", self.unpacked(ratings), RATINGS, ",", header)
        films = self.as_utf8("movies.csv")
        self.register("films_file", films, ["id", "raw", "genres"], ",", "movieId,title,genres")
        self.films = "select id, raw, genres from films_file"

    def register(self, table, path, columns, separator, header=None):
        numbers = {"rating": pa.float32(), "time": pa.int64()}
        schema = pa.schema([(name, numbers.get(name, pa.utf8())) for name in columns])
        if header is not None:
            with path.open() as file:
                found = file.readline().rstrip()
            if found != header:
                sys.exit(f"{path} begins with {found!r}, not with {header!r}")
        options = CsvReadOptions(
            has_header=header is not None, delimiter=separator, quote='"' if header else NOTHING,
            schema=schema, file_extension=path.name,
        )
        self.context.register_csv(table, str(path), options=options)

    def unpacked(self, name):
        """A file, or a copy of what is packed in it: Ballista's plans do not say that a text is packed."""
        if not name.endswith(".gz"):
            return self.folder / name
        copy = self.shared / name.removesuffix(".gz")
        with gzip.open(self.folder / name) as packed, copy.open("wb") as file:
            shutil.copyfileobj(packed, file)
        return copy

    def as_utf8(self, name):
        """A copy of a file whose lines are UTF-8 or latin-1, which are counted."""
        lines = []
        for line in (self.folder / name).read_bytes().split(b"\n"):
            try:
                lines.append(line.decode())
            except UnicodeDecodeError:
                lines.append(line.decode("latin-1"))
                self.n_latin1 += 1
        copy = self.shared / name
        copy.write_bytes("\n".join(lines).encode())
        return copy

    def fingerprint(self):
        """That of `Dataset::sha256`: of the hashes of the files, unpacked, in the order of reading."""
        whole = hashlib.sha256()
        for name in self.files:
            open_file = gzip.open if name.endswith(".gz") else open
            with open_file(self.folder / name, "rb") as file:
                whole.update(hashlib.file_digest(file, "sha256").digest())
        return whole.hexdigest()


class Cluster:
    def __init__(self, context, shared):
        self.context, self.shared = context, shared

    def stage(self, name, query):
        """Has executors write the rows of a query, and calls them by a name."""
        started = time.monotonic()
        folder = f"{self.shared / name}/"
        self.context.sql(query).write_parquet(folder)
        self.context.register_parquet(name, folder)
        print(f"  {name}: {time.monotonic() - started:.1f} s", file=sys.stderr)

    def table(self, query):
        return self.context.sql(query).to_arrow_table()

    def count(self, table):
        return self.table(f"select count(*) as n from {table}")["n"][0].as_py()

    def frequent(self, name, table, column, least):
        """The rows of a table whose person or item has at least so many of them."""
        self.stage(name, f"""select * from {table} where {column} in
            (select {column} from {table} group by {column} having count(*) >= {least})""")


def read(cluster, release):
    """Ratings, films and genres, each numbered, and checked as the library's reader checks them."""
    cluster.stage("ratings", """select row_number() over () as line,
        btrim(person) as person, btrim(item) as item, rating, time from ratings_file""")
    # The title as people write it, as `datasets::titles::parse` has it: without what is in parentheses
    # at its end, of which the last that is a year is the year, and with its article in front.
    groups = r"'^(.+?)((?:\s*\((?:[^()]|\([^()]*\))*\))*)$'"
    year = r"'^.*\(([0-9]{4})(?:[-–][0-9\s]*)?\).*$'"
    article, elided = (f"'^(.+), ({words})$'" for words in (ARTICLES, ELIDED))
    cluster.stage("films", f"""
        with parted as (
            select cast(row_number() over () as bigint) - 1 as number, btrim(id) as id, genres,
                   regexp_replace(btrim(raw), {groups}, '\\1') as name,
                   regexp_replace(btrim(raw), {groups}, '\\2') as behind
            from ({release.films}))
        select number, id, genres, try_cast(regexp_replace(behind, {year}, '\\1') as int) as year,
               case when regexp_like(name, {elided}) then regexp_replace(name, {elided}, '\\2\\1')
                    else regexp_replace(name, {article}, '\\2 \\1') end as title
        from parted""")
    names = release.genres or f"select name from ({genres_of_films(cluster)})"
    cluster.stage("genres", f"""select cast(row_number() over (order by name) as bigint) - 1 as number, name
        from (select distinct name from ({names})
              where name not in ('', 'unknown', '(no genres listed)'))""")
    faults = cluster.table("""
        select 'ratings without a person whose id is a number' as what, count(*) as n
        from ratings where try_cast(person as bigint) is null
        union all
        select 'ratings that are not from 0.5 to 5', count(*)
        from ratings where rating is null or not rating between 0.5 and 5
        union all
        select 'times that are not seconds since 1970', count(*)
        from ratings where time is null or not time between 0 and 253402300799
        union all
        select 'ratings of a film that the list of films lacks', count(*)
        from ratings left anti join films on ratings.item = films.id
        union all
        select 'films without id or title', count(*)
        from films where id is null or id = '' or title is null or title = ''
        union all
        select 'films with the id of another', count(*) - count(distinct id) from films""").to_pylist()
    found = [f"{fault['n']} {fault['what']}" for fault in faults if fault["n"]]
    if found:
        sys.exit(f"{'; '.join(found)} (`user-llm data validate` says where)")


def genres_of_films(cluster):
    """A query of `film` and `name`; without arrays, whose functions executors do not know."""
    most = cluster.table("select max(length(genres) - length(replace(genres, '|', ''))) + 1 as n from films")
    places = ", ".join(f"({place})" for place in range(1, most["n"][0].as_py() + 1))
    return f"""select number as film, btrim(split_part(genres, '|', place)) as name
        from films cross join (values {places}) as places(place)"""


def kept(cluster, min_interactions, min_history):
    """The table of the ratings that the filters leave."""
    events, n_before = "ratings", cluster.count("ratings")
    # Leaving one out can bring another below: until nothing changes.
    while min_interactions > 0:
        people = f"of_people_{n_before}"
        cluster.frequent(people, events, "person", min_interactions)
        events = f"core_{n_before}"
        cluster.frequent(events, people, "item", min_interactions)
        n_after = cluster.count(events)
        if n_after == n_before:
            break
        n_before = n_after
    if min_history > 0:
        cluster.frequent("long", events, "person", min_history)
        events = "long"
    if cluster.count(events) == 0:
        sys.exit("nobody is left in it (lower --min-interactions or --min-history)")
    return events


def store(cluster, events, only_items_with_events):
    """The queries of the store's tables."""
    cluster.stage("people", f"""
        select cast(row_number() over (order by key, line) as bigint) - 1 as number, id, n,
               sum(n) over (order by key, line) - n as first_event
        from (select person as id, cast(person as bigint) as key, min(line) as line, count(*) as n
              from {events} group by person)""")
    in_events = f"where id in (select item from {events})" if only_items_with_events else ""
    cluster.stage("items", f"""
        select cast(row_number() over (order by number) as bigint) - 1 as number,
               number as film, id, title, year
        from films {in_events}""")
    return {
        "events": f"""
            select people.number as "user", items.number as item, rating, time as timestamp
            from {events}
            join people on person = people.id
            join items on item = items.id
            order by people.number, time, line""",
        # Of three events or more the last is the test and the second last the validation.
        "users": """
            select id, first_event, n as n_events,
                   case when n < 3 then n else n - 2 end as n_train,
                   case when n >= 3 then n - 2 end as validation,
                   case when n >= 3 then n - 1 end as test
            from people order by number""",
        "items": f"""
            with tags as (
                select distinct named.film, genres.number as genre
                from ({genres_of_films(cluster)}) named join genres on genres.name = named.name),
            lists as (
                select film, array_agg(genre order by genre) as genres from tags group by film)
            select id, title, year,
                   coalesce(lists.genres, arrow_cast(make_array(), 'List(Int64)')) as genres
            from items left join lists on lists.film = items.film
            order by items.number""",
        "genres": "select name from genres order by number",
        "ratings": f"select distinct rating as value from {events} order by value",
    }


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("source", type=lambda text: Path(text).resolve())
    arguments.add_argument("work", type=lambda text: Path(text).resolve())
    arguments.add_argument("--min-interactions", type=int, default=0)
    arguments.add_argument("--min-history", type=int, default=0)
    options = arguments.parse_args()
    shared, theirs = options.work / "shared", options.work / "theirs"
    shared.mkdir()
    theirs.mkdir()

    context = BallistaSessionContext("df://127.0.0.1:50050", cluster_config=SETTINGS)
    release = Release(context, options.source, shared)
    cluster = Cluster(context, shared)
    read(cluster, release)
    events = kept(cluster, options.min_interactions, options.min_history)
    for name, query in store(cluster, events, options.min_interactions > 0).items():
        table = cluster.table(query).cast(SCHEMA[name])
        feather.write_feather(table, theirs / f"{name}.arrow", compression="uncompressed")
    origin = {
        "name": options.source.name,
        "time_is_rank": release.time_is_rank,
        "inputs": release.fingerprint(),
        "settings": {"min_interactions": options.min_interactions, "min_history": options.min_history},
        "repairs": {"latin1": release.n_latin1} if release.n_latin1 else {},
    }
    (options.work / "origin.json").write_text(json.dumps(origin))


if __name__ == "__main__":
    main()
