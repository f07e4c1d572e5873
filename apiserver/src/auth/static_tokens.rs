//! Bearer tokens from a file the administrator wrote.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::UserInfo;

/// Tokens and the users they stand for.
///
/// Tokens are kept and looked up by their hash, so the time a look-up takes tells nothing about them.
#[derive(Clone, Default)]
pub struct StaticTokens {
    users: HashMap<[u8; 32], Arc<UserInfo>>,
}

/// Why a token file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StaticTokensError {
    /// The file cannot be read.
    #[error("cannot read the token file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: std::io::Error,
    },
    /// A line is not `token,user,uid[,"group1,group2"]`.
    #[error("line {line} of the token file {}: {what}; write token,user,uid or token,user,uid,\"group1,group2\"", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        what: &'static str,
    },
}

impl std::fmt::Debug for StaticTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StaticTokens")
            .field("count", &self.users.len())
            .finish()
    }
}

impl StaticTokens {
    /// Reads a file of lines `token,user,uid,"group1,group2"`, the format of `--token-auth-file`.
    pub fn read(path: &Path) -> Result<Self, StaticTokensError> {
        let text = std::fs::read_to_string(path).map_err(|source| StaticTokensError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text).map_err(|(line, what)| StaticTokensError::Line {
            path: path.to_owned(),
            line,
            what,
        })
    }

    fn parse(text: &str) -> Result<Self, (usize, &'static str)> {
        let mut tokens = Self::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (token, user) = parse_line(line).map_err(|what| (number + 1, what))?;
            if !tokens.add(token, user) {
                return Err((number + 1, "the token is there twice"));
            }
        }
        Ok(tokens)
    }

    /// Adds a token; `false` if it is known already.
    fn add(&mut self, token: &str, user: UserInfo) -> bool {
        self.users
            .insert(Sha256::digest(token).into(), Arc::new(user))
            .is_none()
    }

    /// The user a token stands for.
    pub(super) fn user(&self, token: &str) -> Option<&Arc<UserInfo>> {
        if self.users.is_empty() {
            return None;
        }
        self.users.get::<[u8; 32]>(&Sha256::digest(token).into())
    }
}

fn parse_line(line: &str) -> Result<(&str, UserInfo), &'static str> {
    let mut fields = line
        .splitn(4, ',')
        .map(|field| field.trim().trim_matches('"'));
    let (Some(token), Some(name), Some(uid)) = (fields.next(), fields.next(), fields.next()) else {
        return Err("there are fewer than three columns");
    };
    if token.is_empty() || name.is_empty() {
        return Err("the token or the user is empty");
    }
    let groups = fields.next().unwrap_or_default();
    let groups = groups
        .split(',')
        .map(str::trim)
        .filter(|group| !group.is_empty());
    let user = UserInfo {
        uid: uid.to_owned(),
        ..UserInfo::new(name, groups)
    };
    Ok((token, user))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_users() {
        let text = "# comment\n\nt1,alice,1\nt2,bob,2,\"dev, ops\"\n";
        let tokens = StaticTokens::parse(text).unwrap();
        assert_eq!(tokens.user("t1").unwrap().groups, ["system:authenticated"]);
        let bob = tokens.user("t2").unwrap();
        assert_eq!((&*bob.name, &*bob.uid), ("bob", "2"));
        assert_eq!(bob.groups, ["dev", "ops", "system:authenticated"]);
        assert!(tokens.user("t3").is_none());
    }

    #[test]
    fn bad_lines_are_named() {
        for (text, line) in [("t1,alice", 1), ("\n,alice,1", 2), ("t,a,1\nt,b,2", 2)] {
            assert_eq!(StaticTokens::parse(text).unwrap_err().0, line, "{text:?}");
        }
    }
}
