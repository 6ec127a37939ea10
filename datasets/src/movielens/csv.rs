//! `ratings.csv` and `movies.csv`; columns are found by the names in the first line.

use crate::read::csv::{Format, for_each_record};
use crate::read::files::Opened;
use crate::read::tables::{CatalogueTable, ListedItems};
use crate::{Error, Event};

/// `userId,movieId,rating,timestamp`.
pub(super) fn read_ratings(
    file: &mut Opened<'_>,
    listed: &mut ListedItems<'_, '_>,
) -> Result<(), Error> {
    let wanted = ["userId", "movieId", "rating", "timestamp"];
    for_each_record(file, &Format::default(), &wanted, |_, row| {
        let event = Event {
            item: listed.find_item(row.place(1), &row.text(1)?)?,
            rating: row.place(2).rating(&row.text(2)?)?,
            timestamp: row.place(3).timestamp(&row.text(3)?)?,
        };
        listed.add_event(row.place(0).user(&row.text(0)?)?, event)
    })
}

/// `movieId,title,genres`.
pub(super) fn read_movies(
    file: &mut Opened<'_>,
    catalogue: &mut CatalogueTable,
) -> Result<(), Error> {
    let wanted = ["movieId", "title", "genres"];
    for_each_record(file, &Format::default(), &wanted, |_, row| {
        catalogue.add_item(
            row.place(0),
            &row.text(0)?,
            &row.text(1)?,
            row.text(2)?.split('|'),
        )
    })
}
