use super::view::count;
use super::{Done, Global, print_json, print_line};
use crate::store::RandomSecretInfo;
use crate::wire;

/// Show the secrets behind the random numbers of handlers, or create a new one
///
/// A handler draws the same random numbers when its run is replayed, and nobody can compute them without a secret of
/// the database. The first one is created with the database. No command shows a secret itself, but a backup contains
/// it. Secret 0 means no secret, for runs that began under an older version of fishway.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  fishway randomness\n  fishway randomness rotate",
    args_conflicts_with_subcommands = true
)]
pub struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Create a new secret
    ///
    /// Use this when somebody else may have seen the data directory or a backup. Runs that begin from now on use the
    /// new secret, also while a host serves; a run in progress keeps its own. Secrets that no run uses any more are
    /// deleted.
    Rotate,
}

pub async fn run(global: &Global, args: Args) -> anyhow::Result<Done> {
    let client = global.existing_client(false)?;
    match args.verb {
        Some(Verb::Rotate) => {
            let number = client.rotate_randomness().await?;
            if global.json {
                print_json(&serde_json::json!({ "secret": number }))?;
            } else {
                print_line(&format!("secret {number}: new runs draw from it"))?;
            }
        }
        None => {
            for secret in client.store().random_secrets()? {
                if global.json {
                    print_json(&serde_json::json!({
                        "secret": secret.number,
                        "made_at": secret.made_at_ms.map(wire::time),
                        "runs": secret.runs,
                    }))?;
                } else {
                    print_line(&line(&secret))?;
                }
            }
        }
    }
    Ok(Done::OK)
}

fn line(secret: &RandomSecretInfo) -> String {
    let runs = count(
        secret.runs,
        "run in progress draws",
        "runs in progress draw",
    );
    let runs = format!("{runs} from it");
    match secret.made_at_ms {
        Some(made_at_ms) => {
            let made = wire::time(made_at_ms);
            format!("secret {}  made {made}; {runs}", secret.number)
        }
        None if secret.number == 0 => format!("none      {runs}"),
        None => format!("secret {}  missing; {runs}", secret.number),
    }
}
