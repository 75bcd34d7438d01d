use super::serve::HostArgs;
use super::{Done, Global, Refused, start};
use crate::daemon;

/// Start the host of a data directory again, with the handlers that it had
///
/// For one that was stopped, has failed or was killed: what it ran goes on, what completed is not
/// done again. Prints the number of its process, or of the one that serves already.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub host: HostArgs,
}

pub async fn run(global: &Global, _args: Args) -> anyhow::Result<Done> {
    let client = global.existing_client(false)?;
    let served = client.store().lease()?.is_some();
    let last = client
        .store()
        .handlers_standing()?
        .map(|standing| standing.directory);
    let data = global.data.display();
    let Some(directory) = last.filter(|_| served) else {
        let what = format!("no host ever served {data}: there is nothing to resume");
        return Err(Refused::new(what, "fishway start HANDLERS_DIR starts one").into());
    };
    if !daemon::seems_served(&global.data) {
        let unfinished: u64 = (client.store().depths()?.iter())
            .map(|depth| {
                depth.ready + depth.scheduled + depth.blocked + depth.running + depth.waiting
            })
            .sum();
        global.say(match unfinished {
            0 => "no task is unfinished".to_owned(),
            1 => "1 task is unfinished".to_owned(),
            many => format!("{many} tasks are unfinished"),
        });
    }
    let arguments = start::arguments(global, Some(directory));
    start::start(global, arguments).await
}
