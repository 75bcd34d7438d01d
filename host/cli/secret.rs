use std::io::{IsTerminal, Read};

use anyhow::Context;
use zeroize::Zeroizing;

use super::terminal::{hidden, is_terminal};
use super::view::count;
use super::{Done, Global, now_ms, print_json, print_line};
use crate::blocking;
use crate::secrets::admin::{self, NewValue};
use crate::secrets::{KeySource, Reference, SecretError, SecretValue, VALUE_BYTES_MAX};
use crate::store::{SecretInfo, SecretKind};
use crate::wire;

/// Set, list and remove secrets, and renew the key that encrypts them
///
/// A secret has a name and a value, such as a key of an API. A handler never gets the value: its manifest names the
/// secret, and its code sees a placeholder. Values are encrypted in the database with the key in the file secret.key
/// of the data directory, in the file that FISHWAY_SECRET_KEY_FILE names, or in the variable FISHWAY_SECRET_KEY.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  fishway secret set stripe\n  fishway secret list")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Set the value of a secret, or where the host finds it
    ///
    /// The value is read from standard input, without one trailing line feed; on a terminal there is a prompt that does
    /// not show it. It is text of up to 64 KiB. The first secret creates the key file. With --json, an object with
    /// name, kind, reference, created_at and updated_at, as in list.
    #[command(
        after_help = "Examples:\n  fishway secret set stripe < stripe.txt\n  fishway secret set github --from env:GITHUB_TOKEN\n  fishway secret set db --from file:/run/secrets/db"
    )]
    Set {
        /// Name of the secret: letters, digits, "-", "_" and "."
        name: String,
        /// Keep a reference instead of a value: env:VARIABLE or file:/PATH of the host, read whenever the secret is used
        #[arg(long, value_name = "REFERENCE")]
        from: Option<Reference>,
    },
    /// List the secrets, without their values
    ///
    /// With --json, an object for each with name, kind (encrypted, env or file), reference (the variable or the path),
    /// created_at and updated_at.
    #[command(after_help = "Examples:\n  fishway secret list\n  fishway secret list --json")]
    List,
    /// Remove secrets
    #[command(
        after_help = "Examples:\n  fishway secret remove stripe\n  fishway secret remove stripe github"
    )]
    Remove {
        /// Names of the secrets
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Renew the key that encrypts all secrets
    ///
    /// Every value is re-encrypted, a few in each transaction, also while hosts serve; then the old key is removed from
    /// the file. If the command is interrupted, run it again to resume. If several hosts share a database, first run it
    /// with --prepare, copy the file to every host, and then run it without. With FISHWAY_SECRET_KEY, first put the new
    /// key in front of the old one, with a comma between them. With --json, an object with key, secrets and resumed.
    #[command(after_help = "Examples:\n  fishway secret rotate\n  fishway secret rotate --prepare")]
    Rotate {
        /// Only add a new key to the file, which the next rotation uses
        #[arg(long)]
        prepare: bool,
    },
}

pub async fn run(global: &Global, args: Args) -> anyhow::Result<Done> {
    let keys = KeySource::of(&global.data);
    match args.verb {
        Verb::Set { name, from } => set(global, &keys, &name, from).await,
        Verb::List => list(global),
        Verb::Remove { names } => {
            let client = global.existing_client(false)?;
            for name in names {
                admin::remove(&**client.store(), &name).await?;
                global.say(format!("secret {name} removed"));
            }
            Ok(Done::OK)
        }
        Verb::Rotate { prepare: true } => {
            let client = global.existing_client(false)?;
            let id = admin::prepare(&**client.store(), &keys)?;
            if global.json {
                print_json(&serde_json::json!({ "key": id, "file": keys.place() }))?;
            } else {
                global.say(format!(
                    "{} has new key {id}: copy the file to every host, then run fishway secret rotate",
                    keys.place()
                ));
            }
            Ok(Done::OK)
        }
        Verb::Rotate { prepare: false } => rotate(global, &keys).await,
    }
}

async fn set(
    global: &Global,
    keys: &KeySource,
    name: &str,
    from: Option<Reference>,
) -> anyhow::Result<Done> {
    crate::secrets::checked_name(name)?;
    let value = match from {
        Some(reference) => NewValue::Reference(reference),
        None => {
            let asked = name.to_owned();
            match blocking::run(move || given(&asked)).await? {
                Some(text) => NewValue::Text(text),
                None => return Ok(Done(130)),
            }
        }
    };
    let client = global.client(false)?;
    let set = admin::set(&**client.store(), keys, name, &value, now_ms()).await?;
    if global.json {
        print_json(&wire::secret(&set.info))?;
    } else {
        global.say(format!("secret {name} set"));
    }
    if set.made_key {
        let everywhere = match global.database()? {
            Some(_) => "; every host of this database needs it",
            None => "",
        };
        global.say(format!(
            "created {}, which encrypts the secrets: keep a copy, apart from backups of the database{everywhere}",
            keys.place()
        ));
    }
    if let NewValue::Text(text) = &value
        && !text.fits_header()
    {
        global.say("the value has a line break or another control character: it cannot be put into an HTTP header");
    }
    Ok(Done::OK)
}

/// The value, from a hidden prompt or from standard input. `None` after Ctrl-C.
fn given(name: &str) -> anyhow::Result<Option<SecretValue>> {
    let bytes = if std::io::stdin().is_terminal() {
        let question = format!("value of {name} (not shown): ");
        match hidden::ask(&question, VALUE_BYTES_MAX + 1)? {
            Some(bytes) => bytes,
            None => return Ok(None),
        }
    } else {
        // One byte more than allowed, so that a longer value is refused and not cut.
        let most = VALUE_BYTES_MAX + 3;
        let mut bytes = Zeroizing::new(Vec::with_capacity(most));
        let stdin = std::io::stdin().lock();
        stdin
            .take(most as u64)
            .read_to_end(&mut bytes)
            .context("standard input cannot be read")?;
        bytes
    };
    let value = SecretValue::from_text(bytes);
    Ok(Some(value.map_err(|why| SecretError::BadValue {
        name: name.to_owned(),
        why,
    })?))
}

fn list(global: &Global) -> anyhow::Result<Done> {
    let client = global.existing_client(false)?;
    let secrets = client.store().secrets()?;
    if secrets.is_empty() && !global.json {
        global.say("no secrets; fishway secret set NAME creates one");
    }
    if !global.json && is_terminal() && !secrets.is_empty() {
        print_line(&format!(
            "{:24}  {:24}  {:24}  KIND",
            "NAME", "CREATED", "UPDATED"
        ))?;
    }
    for info in &secrets {
        match global.json {
            true => print_json(&wire::secret(info))?,
            false => print_line(&line(info))?,
        }
    }
    Ok(Done::OK)
}

fn line(info: &SecretInfo) -> String {
    let reference = info.reference.as_deref().unwrap_or_default();
    let kind = match info.kind {
        SecretKind::Encrypted => "encrypted".to_owned(),
        SecretKind::Env | SecretKind::File => format!("{}:{reference}", info.kind.as_str()),
    };
    format!(
        "{:24}  {:24}  {:24}  {kind}",
        info.name,
        wire::time(info.created_at_ms),
        wire::time(info.updated_at_ms)
    )
}

async fn rotate(global: &Global, keys: &KeySource) -> anyhow::Result<Done> {
    let client = global.existing_client(false)?;
    let leases = client.store().leases()?;
    let hosts = leases.iter().filter(|lease| lease.ended_at_ms.is_none());
    let rotated = admin::rotate(&**client.store(), keys, hosts.count()).await?;
    if global.json {
        print_json(&serde_json::json!({
            "key": rotated.key_id, "secrets": rotated.secrets, "resumed": rotated.resumed,
        }))?;
    } else {
        let again = if rotated.resumed {
            "resumed an earlier rotation: "
        } else {
            ""
        };
        global.say(format!(
            "{again}{} re-encrypted with key {}",
            count(rotated.secrets, "secret", "secrets"),
            rotated.key_id
        ));
    }
    if !rotated.unused.is_empty() {
        global.say(format!(
            "remove from {} for every host and command: {}",
            keys.place(),
            count(rotated.unused.len() as u64, "unused key", "unused keys")
        ));
    }
    Ok(Done::OK)
}
