//! The text files without quoting: 100K's `u.*` and the `.dat` files.

use crate::error::Found;
use crate::read::cell::Place;
use crate::read::files::{Opened, for_each_line};
use crate::read::tables::{CatalogueTable, ListedItems};
use crate::{Error, Event};

/// `user item rating timestamp`, with this between them.
pub(super) fn read_ratings(
    file: &mut Opened<'_>,
    separator: &str,
    listed: &mut ListedItems<'_, '_>,
) -> Result<(), Error> {
    const NAMES: [&str; 4] = ["user", "item", "rating", "timestamp"];
    for_each_line(file, |_, start, line| {
        let [user, item, rating, timestamp] = split_line(start, line, separator, NAMES)?;
        let at = |index: usize| Place {
            column: index + 1,
            name: NAMES[index],
            ..start
        };
        let event = Event {
            item: listed.find_item(at(1), item)?,
            rating: at(2).rating(rating)?,
            timestamp: at(3).timestamp(timestamp)?,
        };
        listed.add_event(at(0).user(user)?, event)
    })
}

/// `u.genre`: `name|number`, the number being the genre's column in `u.item`.
pub(super) fn read_genres(file: &mut Opened<'_>) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for_each_line(file, |_, start, line| {
        let [name, number] = split_line(start, line, "|", ["genre", "number"])?;
        if number.trim().parse() != Ok(names.len()) {
            let place = Place {
                column: 2,
                name: "number",
                ..start
            };
            return Err(place.error(Found::value(number), names.len().to_string()));
        }
        names.push(name.to_string());
        Ok(())
    })?;
    if names.is_empty() {
        return Err(Error::Empty {
            file: file.path.to_path_buf(),
        });
    }
    Ok(names)
}

/// `u.item`: id, title, two dates, an address, then a flag for each genre.
pub(super) fn read_u_item(
    file: &mut Opened<'_>,
    genres: &[String],
    catalogue: &mut CatalogueTable,
) -> Result<(), Error> {
    const N_BEFORE_GENRES: usize = 5;
    for name in genres {
        catalogue.add_genre(name);
    }
    for_each_line(file, |_, start, line| {
        let fields: Vec<&str> = line.split('|').collect();
        let n_expected = N_BEFORE_GENRES + genres.len();
        if fields.len() != n_expected {
            return Err(wrong_width(start, fields.len(), n_expected, "|"));
        }
        let mut flagged = Vec::new();
        for (index, (flag, genre)) in fields[N_BEFORE_GENRES..].iter().zip(genres).enumerate() {
            match flag.trim() {
                "0" => {}
                "1" => flagged.push(genre.as_str()),
                other => {
                    let column = N_BEFORE_GENRES + index + 1;
                    return Err(Place {
                        column,
                        name: "genre",
                        ..start
                    }
                    .error(Found::value(other), "0 or 1"));
                }
            }
        }
        catalogue.add_item(start, fields[0], fields[1], flagged.into_iter())
    })
}

/// `movies.dat`: `id::title::genre|genre`.
pub(super) fn read_movies_dat(
    file: &mut Opened<'_>,
    catalogue: &mut CatalogueTable,
) -> Result<(), Error> {
    for_each_line(file, |_, start, line| {
        // A title may hold the separator; an id and genres may not.
        let parts = line
            .split_once("::")
            .and_then(|(id, rest)| Some((id, rest.rsplit_once("::")?)));
        let Some((id, (title, genres))) = parts else {
            return Err(wrong_width(start, line.split("::").count(), 3, "::"));
        };
        catalogue.add_item(start, id, title, genres.split('|'))
    })
}

fn split_line<'t, const N: usize>(
    start: Place<'_>,
    line: &'t str,
    separator: &str,
    names: [&'static str; N],
) -> Result<[&'t str; N], Error> {
    let mut fields = [""; N];
    let mut n_fields = 0;
    for text in line.split(separator) {
        if let Some(field) = fields.get_mut(n_fields) {
            *field = text;
        }
        n_fields += 1;
    }
    if n_fields != N {
        let name = names.get(n_fields).copied().unwrap_or("line");
        return Err(wrong_width(Place { name, ..start }, n_fields, N, separator));
    }
    Ok(fields)
}

/// The error for a line with too few or too many fields; it points at the first that is wrong.
fn wrong_width(start: Place<'_>, n_found: usize, n_expected: usize, separator: &str) -> Error {
    let plural = if n_found == 1 { "" } else { "s" };
    Place {
        column: n_found.min(n_expected) + 1,
        ..start
    }
    .error(
        format!("{n_found} field{plural}"),
        format!("{n_expected} fields separated by {separator:?}"),
    )
}
