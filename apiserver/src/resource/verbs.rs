//! The verbs of the API as a small set.

/// What a request does to a resource, named as discovery and RBAC name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Verb {
    Create = 1,
    Delete = 1 << 1,
    DeleteCollection = 1 << 2,
    Get = 1 << 3,
    List = 1 << 4,
    Patch = 1 << 5,
    Update = 1 << 6,
    Watch = 1 << 7,
}

impl Verb {
    const ALL: [Self; 8] = [
        Self::Create,
        Self::Delete,
        Self::DeleteCollection,
        Self::Get,
        Self::List,
        Self::Patch,
        Self::Update,
        Self::Watch,
    ];

    /// `create`, `deletecollection`, …
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Get => "get",
            Self::List => "list",
            Self::Patch => "patch",
            Self::Update => "update",
            Self::Watch => "watch",
        }
    }

    /// Whether it changes nothing.
    pub fn is_read(self) -> bool {
        matches!(self, Self::Get | Self::List | Self::Watch)
    }
}

/// A set of verbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verbs(u16);

impl Verbs {
    /// Every verb.
    pub const ALL: Self = Self(0xff);
    /// What kinds that are answered at once and never stored have.
    pub const CREATE: Self = Self(Verb::Create as u16);

    /// The set of these verbs.
    pub const fn of(verbs: &[Verb]) -> Self {
        let mut bits = 0;
        let mut at = 0;
        while at < verbs.len() {
            bits |= verbs[at] as u16;
            at += 1;
        }
        Self(bits)
    }

    /// The set without those of `other`.
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether the verb is in the set.
    pub fn has(self, verb: Verb) -> bool {
        self.0 & verb as u16 != 0
    }

    /// The verbs in discovery's (alphabetical) order.
    pub fn iter(self) -> impl Iterator<Item = Verb> {
        Verb::ALL.into_iter().filter(move |verb| self.has(*verb))
    }
}
