//! The file that makes a directory a store: its format, and which of the databases in it is the current one.
use std::io;
use std::path::Path;

use super::super::Error;
use super::sync;

/// The format written by this davit and the newest it can read.
/// Format 2 may have sealed values, format 3 knows when changes were, format 4 has a log.
pub(super) const NEWEST: u32 = LOGGED;

/// The first format in which every database has a log in front.
pub(super) const LOGGED: u32 = 4;

const NAME: &str = "format";
const TITLE: &str = "davit store";

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format {
    /// The number of the current database. Each rewrite takes the next one.
    pub(super) database: u64,
    /// The format it was written in.
    pub(super) format: u32,
}

impl Format {
    /// What a directory's file says, or `None` if it has none.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>, Error> {
        let path = dir.join(NAME);
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(dir, &text).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(damaged(dir)),
            Err(error) => Err(Error::io(format!("read {}", path.display()), error)),
        }
    }

    /// A database in the newest format.
    pub(super) fn newest(database: u64) -> Self {
        Self {
            database,
            format: NEWEST,
        }
    }

    /// Makes this the current format and database of a directory, durably and at once.
    pub(super) fn write(self, dir: &Path) -> Result<(), Error> {
        let text = format!(
            "{TITLE}\nformat {}\ndatabase {}\n",
            self.format, self.database
        );
        sync::replace_file(dir, NAME, text.as_bytes())
            .map_err(|error| Error::io(format!("write {}", dir.join(NAME).display()), error))
    }

    fn parse(dir: &Path, text: &str) -> Result<Self, Error> {
        let mut lines = text.lines();
        let title = lines.next();
        let mut number = |name: &str| lines.next()?.strip_prefix(name)?.trim().parse::<u64>().ok();
        let format = number("format ").filter(|_| title == Some(TITLE));
        let found = format.and_then(|format| u32::try_from(format).ok());
        let found = found.ok_or_else(|| damaged(dir))?;
        if found > NEWEST {
            return Err(Error::TooNew {
                dir: dir.to_owned(),
                found,
                supported: NEWEST,
            });
        }
        Ok(Self {
            format: found,
            database: number("database ").ok_or_else(|| damaged(dir))?,
        })
    }
}

fn damaged(dir: &Path) -> Error {
    Error::Corrupt {
        dir: dir.to_owned(),
        detail: "its format file is not one of davit's".to_owned(),
    }
}
