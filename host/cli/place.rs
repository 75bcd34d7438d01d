//! Where a command finds the tasks: a data directory, a database on a server, or a host that is asked over HTTP.

use std::sync::Arc;

use super::{Global, Refused};
use crate::client::Client;
use crate::clock::SystemClock;
use crate::daemon::View;
use crate::remote::Remote;
use crate::store::postgres::Address;
use crate::store::sqlite::{self, FILE_NAME, Role, SqliteStore};
use crate::store::{Place, Store};

impl Global {
    /// The verbs on the host that is asked over HTTP, or on the data directory, which is made when
    /// absent.
    pub(super) fn client(&self, watch: bool) -> anyhow::Result<Client> {
        if let Some(remote) = self.remote(watch)? {
            return Ok(Client::new(Arc::new(remote)));
        }
        Ok(Client::new(self.store(watch)?))
    }

    /// The store of the data directory or of the shared database.
    pub(super) fn store(&self, watch: bool) -> anyhow::Result<Arc<dyn Store>> {
        Ok(self
            .place()?
            .open(Role::Visitor, watch, Arc::new(SystemClock))?)
    }

    /// Where the data is, by `--data`, `--database` and the settings.
    pub(super) fn place(&self) -> anyhow::Result<Place> {
        Ok(Place {
            directory: self.data.clone(),
            database: self.database()?,
            bytes_max: self.database_bytes_max,
        })
    }

    /// A database of a server.
    pub(super) fn store_at(&self, address: Address) -> anyhow::Result<Arc<dyn Store>> {
        let place = Place {
            directory: self.data.clone(),
            database: Some(address),
            bytes_max: None,
        };
        Ok(place.open(Role::Visitor, false, Arc::new(SystemClock))?)
    }

    /// The database that hosts share, if there is one.
    pub(super) fn database(&self) -> anyhow::Result<Option<Address>> {
        let url = self.database.as_deref().filter(|url| !url.is_empty());
        Ok(url.map(Address::parse).transpose()?)
    }

    /// Whether there is any data: a file, or a database, which is made where it is not there. A directory that this
    /// user may not read counts as one that has data: opening it gives the reason.
    pub(super) fn has_data(&self) -> bool {
        self.database.is_some() || self.data.join(FILE_NAME).try_exists().unwrap_or(true)
    }

    /// The host that is asked over HTTP, if one is.
    pub(super) fn remote(&self, watch: bool) -> anyhow::Result<Option<Remote>> {
        let Some(url) = self.url.clone() else {
            return Ok(None);
        };
        // Not by a flag: everybody on the machine sees those.
        let token = std::env::var("FISHWAY_TOKEN").ok();
        let token = token.filter(|token| !token.trim().is_empty());
        Ok(Some(Remote::open(url, token, watch)?))
    }

    /// The process of the host that serves what `client` asks.
    pub(super) fn serving(&self, client: &Client) -> anyhow::Result<Option<u32>> {
        Ok(match &self.url {
            None => crate::daemon::serving(&self.data),
            Some(_) => (client.store().lease()?)
                .filter(|lease| lease.ended_at_ms.is_none())
                .map(|lease| lease.holder.pid),
        })
    }

    /// How the host stands that serves what `client` asks.
    pub(super) fn view(&self, client: &Client) -> anyhow::Result<View> {
        Ok(match self.remote(false)? {
            Some(remote) => remote.view()?,
            None => View::of(&self.data, &**client.store(), &SystemClock)?,
        })
    }

    /// Refuse a command that is about this machine.
    pub(super) fn here(&self, command: &str) -> anyhow::Result<()> {
        match &self.url {
            None => Ok(()),
            Some(url) => {
                let what = format!("fishway {command} is about this machine, and {url} is asked");
                let hint = "leave --url and FISHWAY_URL out, or run it where the host runs";
                Err(Refused::usage(what, hint).into())
            }
        }
    }

    /// The verbs on the host that is asked over HTTP, or on a data directory that there has to be.
    pub(super) fn existing_client(&self, watch: bool) -> anyhow::Result<Client> {
        if let Some(remote) = self.remote(watch)? {
            return Ok(Client::new(Arc::new(remote)));
        }
        self.look_for_data()?;
        Ok(Client::new(self.store(watch)?))
    }

    /// Refuse a command that needs data where there is none.
    pub(super) fn look_for_data(&self) -> anyhow::Result<()> {
        if self.has_data() {
            return Ok(());
        }
        let what = format!("there is no fishway data in {}", self.data.display());
        let hint = "fishway serve or fishway submit makes it; --data names another directory";
        Err(Refused::new(what, hint).into())
    }

    /// The file in the data directory, for what is about that alone.
    pub(super) fn existing_file(&self, watch: bool) -> anyhow::Result<SqliteStore> {
        if self.database.is_some() {
            let hint = "pg_dump copies a database of PostgreSQL, while hosts serve it";
            return Err(Refused::usage("this is about the file in a data directory", hint).into());
        }
        self.look_for_data()?;
        Ok(SqliteStore::open(sqlite::Opening {
            directory: self.data.clone(),
            role: Role::Visitor,
            watch,
            bytes_max: self.database_bytes_max,
            clock: Arc::new(SystemClock),
        })?)
    }
}
