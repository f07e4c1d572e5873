//! How a driver introduces itself.

/// Name, version and wishes of a driver. Made without asking the host for anything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    /// DNS name: `StorageClass.provisioner` or `Network.spec.driver`.
    pub driver: String,
    /// The driver's version.
    pub version: String,
    /// One sentence for people.
    pub description: String,
    /// Version of the driver's own state; a larger one is migrated to.
    pub state_version: u32,
    /// JSON Schemas of configuration, by kind (`plugin`, `network`, `storage-class`).
    pub schemas: Vec<(String, String)>,
    /// Grants it needs or can use.
    pub wants: Vec<Want>,
    /// What it can do, such as `storage.placement=node`.
    pub features: Vec<(String, String)>,
}

/// One grant that a driver would like to have.
#[derive(Clone, Debug, PartialEq)]
pub struct Want {
    /// The field of `spec.grants`, such as `links.create`.
    pub capability: String,
    /// The value there.
    pub value: String,
    /// Whether the driver is of no use without it.
    pub required: bool,
    /// The reason, for the person who decides.
    pub why: String,
}

/// Whether the driver can serve.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// Whether it can.
    pub ready: bool,
    /// What is missing.
    pub message: String,
}

impl Manifest {
    /// A driver with no wishes.
    #[must_use]
    pub fn new(driver: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            driver: driver.into(),
            version: version.into(),
            ..Self::default()
        }
    }

    /// One sentence for people.
    #[must_use]
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = text.into();
        self
    }

    /// A grant the driver is of no use without.
    #[must_use]
    pub fn want(self, capability: &str, value: &str, why: &str) -> Self {
        self.push(capability, value, why, true)
    }

    /// A grant the driver can do without.
    #[must_use]
    pub fn can_use(self, capability: &str, value: &str, why: &str) -> Self {
        self.push(capability, value, why, false)
    }

    /// Something the driver can do.
    #[must_use]
    pub fn feature(mut self, name: &str, value: &str) -> Self {
        self.features.push((name.to_owned(), value.to_owned()));
        self
    }

    fn push(mut self, capability: &str, value: &str, why: &str, required: bool) -> Self {
        self.wants.push(Want {
            capability: capability.to_owned(),
            value: value.to_owned(),
            required,
            why: why.to_owned(),
        });
        self
    }
}
