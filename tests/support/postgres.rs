//! PostgreSQL for tests: one cluster for the whole run, in a temporary directory, and a database of
//! its own for each test.
//!
//! A shell keeps the server: when the test process ends, however it ends, the shell's input ends,
//! and it stops the server and removes the directory.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use fishway::store::postgres::{Address, Opening, PostgresStore};
use fishway::store::sqlite::Role;

/// How long a server has to say something before a test fails.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// Makes a cluster in `$1` with the programs in `$2`, serves it with the options that follow, says
/// "ready", and ends it when its input ends. `KEYS` may name a directory with a certificate for it.
const KEEPER: &str = r#"
directory=$1; bin=$2; shift 2
as() { if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; else "$@"; fi; }
if [ "$(id -u)" = 0 ]; then chown postgres "$directory"; fi
cd "$directory" || exit 1
if [ -n "$FROM" ]; then
  as "$bin/pg_basebackup" -h "$FROM" -U postgres -D "$directory/data" -R -X stream -c fast >"$directory.log" 2>&1 || exit 1
elif [ ! -e "$directory/data" ]; then
  as "$bin/initdb" -D "$directory/data" -U postgres -A trust --no-sync -E UTF8 --locale=C >"$directory.log" 2>&1 || exit 1
fi
if [ -n "$KEYS" ]; then
  cp "$KEYS/server.crt" "$KEYS/server.key" "$directory/data" || exit 1
  chmod 600 "$directory/data/server.key"
  if [ "$(id -u)" = 0 ]; then chown postgres "$directory/data/server.crt" "$directory/data/server.key"; fi
fi
as "$bin/postgres" -D "$directory/data" "$@" </dev/null >"$directory.log" 2>&1 &
server=$!
until as "$bin/pg_isready" -q -h "$directory"; do
  kill -0 $server 2>/dev/null || { cat "$directory.log" >&2; exit 1; }
done
echo ready
cat >/dev/null
as "$bin/pg_ctl" -D "$directory/data" -m immediate -w stop >/dev/null 2>&1; wait $server
rm -rf "$directory" "$directory.log"
"#;

/// Stops the server of the cluster in `$1` at once and starts it again.
const AGAIN: &str = r#"
as() { if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; else "$@"; fi; }
cd "$1" && as "$2/pg_ctl" -D "$1/data" -m immediate -w -l "$1/again.log" restart >/dev/null 2>&1
"#;

/// The same, and does `$3` between the two.
const BETWEEN: &str = r#"
as() { if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; else "$@"; fi; }
cd "$1" && as "$2/pg_ctl" -D "$1/data" -m immediate -w stop >/dev/null 2>&1
eval "$3" && as "$2/pg_ctl" -D "$1/data" -w -l "$1/again.log" restart >/dev/null 2>&1
"#;

/// Stops the server of the cluster in `$1` at once.
const CRASH: &str = r#"
as() { if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; else "$@"; fi; }
cd "$1" && as "$2/pg_ctl" -D "$1/data" -m immediate -w stop >/dev/null 2>&1
"#;

/// Does something else to it.
const CONTROL: &str = r#"
as() { if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; else "$@"; fi; }
cd "$1" && as "$2/pg_ctl" -D "$1/data" -w "$3" >/dev/null 2>&1
"#;

/// A server whose processes stand still.
pub struct Hung(Vec<String>);

impl Hung {
    fn signal(&self, name: &str) {
        let _ = Command::new("kill")
            .arg(format!("-{name}"))
            .args(&self.0)
            .stderr(Stdio::null())
            .status();
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        self.signal("CONT");
    }
}

/// A server that ends with whoever holds this.
pub struct Cluster {
    directory: PathBuf,
    port: u16,
    keeper: std::process::Child,
}

impl Cluster {
    /// Make one, with these settings besides.
    pub fn start(settings: &[&str]) -> Cluster {
        Cluster::make(settings, 5_432, None, None)
    }

    /// Make a standby of another one, which follows it until it is promoted.
    pub fn standby(of: &Cluster) -> Cluster {
        Cluster::make(&["fsync=off"], 5_432, None, Some(of.directory()))
    }

    /// Let a standby become a primary.
    pub fn promote(&self) {
        self.control("promote");
    }

    /// Stop it as a crash would, for good.
    pub fn crash(&self) {
        let stopped = Command::new("sh")
            .args(["-c", CRASH, "sh"])
            .arg(&self.directory)
            .arg(programs())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status();
        assert!(stopped.unwrap().success());
    }

    /// Stop every process of the server without a word, as a machine that hangs, until the answer is dropped.
    pub fn hang(&self) -> Hung {
        let known = std::fs::read_to_string(self.directory.join("data/postmaster.pid")).unwrap();
        let postmaster = known.lines().next().unwrap().to_owned();
        let children = Command::new("pgrep")
            .args(["-P", &postmaster])
            .output()
            .unwrap();
        let children = String::from_utf8(children.stdout).unwrap();
        // First the one that would start others.
        let processes: Vec<String> = std::iter::once(postmaster)
            .chain(children.lines().map(str::to_owned))
            .collect();
        let hung = Hung(processes);
        hung.signal("STOP");
        hung
    }

    /// Take so many of its connections, until the answer is dropped.
    pub fn fill(&self, connections: usize) -> Vec<std::os::unix::net::UnixStream> {
        use std::io::{Read, Write};
        let socket = self.directory.join(format!(".s.PGSQL.{}", self.port));
        let connect = || {
            let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
            // Version 3.0, and who we are; the answer begins with "R" when we are in.
            let said = b"\0\x03\0\0user\0postgres\0database\0postgres\0\0";
            let length = (said.len() as u32 + 4).to_be_bytes();
            stream.write_all(&[&length, &said[..]].concat()).unwrap();
            let mut answer = [0];
            stream.read_exact(&mut answer).unwrap();
            (answer == *b"R").then_some(stream)
        };
        // Earlier connections may not be closed yet.
        let mut taken = Vec::new();
        while taken.len() < connections {
            taken.extend(connect());
        }
        taken
    }

    /// Wait until it has said something, behind so many bytes of its log.
    pub fn says(&self, words: &str, after: usize) {
        let since = std::time::Instant::now();
        while !self.log()[after..].contains(words) {
            assert!(since.elapsed() < PATIENCE, "it does not say {words}");
            std::thread::yield_now();
        }
    }

    fn control(&self, verb: &str) {
        let done = Command::new("sh")
            .args(["-c", CONTROL, "sh"])
            .arg(&self.directory)
            .arg(programs())
            .arg(verb)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status();
        assert!(done.unwrap().success(), "{verb}");
    }

    /// Make one that is reached by its port on this machine, in the clear and encrypted, with
    /// `server.crt` and `server.key` of a directory.
    pub fn encrypted(keys: &Path) -> Cluster {
        // One that is free now; whoever asks after this gets another.
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let settings = ["listen_addresses=127.0.0.1", "ssl=on", "log_connections=on"];
        Cluster::make(&settings, port, Some(keys), None)
    }

    fn make(settings: &[&str], port: u16, keys: Option<&Path>, from: Option<&Path>) -> Cluster {
        let directory = tempfile::Builder::new()
            .prefix("fishway-pg-")
            .tempdir()
            .unwrap()
            .keep();
        let mut options = vec![
            "listen_addresses=".to_owned(),
            format!("unix_socket_directories={}", directory.display()),
            "max_connections=400".to_owned(),
            "shared_buffers=64MB".to_owned(),
        ];
        options.extend(settings.iter().map(|&setting| setting.to_owned()));
        let options = options
            .into_iter()
            .flat_map(|option| ["-c".to_owned(), option]);
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "sh"])
            .arg(&directory)
            .arg(programs())
            .args(options)
            .env("PGPORT", port.to_string())
            .env("KEYS", keys.unwrap_or(Path::new("")))
            .env("FROM", from.unwrap_or(Path::new("")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let said = keeper.stdout.take().unwrap();
        BufReader::new(said).read_line(&mut line).unwrap();
        assert_eq!(
            line.trim(),
            "ready",
            "PostgreSQL did not start; is it installed?"
        );
        Cluster {
            directory,
            port,
            keeper,
        }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it has said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(format!("{}.log", self.directory.display())).unwrap()
    }

    /// What it says from now on, line by line; waits for the next one.
    pub fn follow(&self) -> Followed {
        let mut tail = Command::new("tail")
            .args(["-n", "0", "-f"])
            .arg(format!("{}.log", self.directory.display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(tail.stdout.take().unwrap()).lines();
        Followed { tail, lines }
    }

    /// Stop it as a crash would, and start it again.
    pub fn restart(&self) {
        let restarted = Command::new("sh")
            .args(["-c", AGAIN, "sh"])
            .arg(&self.directory)
            .arg(programs())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status();
        assert!(restarted.unwrap().success());
    }

    /// Stop it as a crash would, keep a copy of all that it has, and start it again.
    pub fn copy(&self) {
        self.between("rm -rf copy && cp -a data copy");
    }

    /// Stop it as a crash would, and start it with what it had when it was copied: as a standby takes over
    /// that has not received what came after.
    pub fn go_back(&self) {
        self.between("rm -rf data && mv copy data && rm -f data/postmaster.pid");
    }

    fn between(&self, done: &str) {
        let done = Command::new("sh")
            .args(["-c", BETWEEN, "sh"])
            .arg(&self.directory)
            .arg(programs())
            .arg(done)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status();
        assert!(done.unwrap().success());
    }

    /// The directory with its socket.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The address of one of its databases.
    pub fn url(&self, database: &str) -> String {
        let socket = self.directory.display().to_string().replace('/', "%2F");
        format!("postgres://postgres@{socket}/{database}?sslmode=disable")
    }

    /// Whether a query has any row.
    pub fn has(&self, database: &str, sql: &str) -> bool {
        let sql = sql.to_owned();
        self.ask(database, async move |client| {
            !client.query(&sql, &[]).await.unwrap().is_empty()
        })
    }

    /// Do something in a database.
    pub fn run(&self, database: &str, sql: &str) {
        let sql = sql.to_owned();
        self.ask(database, async move |client| {
            client.batch_execute(&sql).await.unwrap();
        });
    }

    /// Ask a database over a connection of its own, on a thread of its own: a test may have a runtime already.
    fn ask<T: Send + 'static>(
        &self,
        database: &str,
        question: impl AsyncFnOnce(tokio_postgres::Client) -> T + Send + 'static,
    ) -> T {
        let url = self.url(database).replace("?sslmode=disable", "");
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let (client, line) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
                    .await
                    .unwrap();
                tokio::spawn(line);
                question(client).await
            })
        };
        std::thread::spawn(work).join().unwrap()
    }
}

/// See [`Cluster::follow`].
pub struct Followed {
    tail: std::process::Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Iterator for Followed {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        self.lines.next()?.ok()
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let _ = self.tail.kill();
        let _ = self.tail.wait();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// Where Debian, or whoever, has put `initdb`.
fn programs() -> PathBuf {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    versions.sort();
    if let Some(newest) = versions.pop() {
        return newest;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let known = std::env::split_paths(&path).find(|directory| directory.join("initdb").exists());
    known.expect("PostgreSQL is not installed: apt-get install postgresql")
}

/// The cluster of this run. What is written to it is as good as lost when the machine stops.
pub fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let cluster = Cluster::start(&[
            "fsync=off",
            "synchronous_commit=off",
            "full_page_writes=off",
        ]);
        cluster.run("postgres", "create database fishway_template");
        drop(open(&cluster.url("fishway_template"), Role::Visitor));
        cluster
    })
}

/// The address of a new database, with our tables in it.
pub fn database() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let cluster = cluster();
    let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    cluster.run(
        "postgres",
        &format!("create database {name} template fishway_template"),
    );
    cluster.url(&name)
}

/// The name of the database that an address ends with.
pub fn name_of(url: &str) -> String {
    let path = url.split('?').next().unwrap();
    path.rsplit('/').next().unwrap().to_owned()
}

/// Open a database.
pub fn open(url: &str, role: Role) -> PostgresStore {
    PostgresStore::open(Opening {
        address: Address::parse(url).unwrap(),
        role,
        watch: true,
        clock: None,
    })
    .unwrap()
}
