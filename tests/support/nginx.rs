//! nginx with TLS for tests: it serves files of a temporary directory, and its access log is the ledger.
//!
//! A shell keeps the server: when the test process ends, however it ends, the shell's input ends, and it stops the
//! server.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::http_server::Authority;

/// Serves by the configuration `$1`, says "ready" once `$2` has the server's number, and ends it when its input ends.
const KEEPER: &str = r#"
nginx -c "$1" 2>"$1.log" &
server=$!
until [ -s "$2" ]; do
  kill -0 $server 2>/dev/null || { cat "$1.log" >&2; exit 1; }
done
echo ready
cat >/dev/null
kill $server; wait $server
"#;

/// A server that ends with its owner.
pub struct Nginx {
    keeper: Child,
    directory: TempDir,
    port: u16,
}

impl Nginx {
    /// One for these files, with a certificate of this authority.
    pub fn start(authority: &Authority, files: &[(&str, &str)]) -> Nginx {
        // A port that is free now: the kernel does not hand out the same one again soon.
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let write = |name: &str, text: &str| {
            let file = path.join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        };
        let (certificate, key) = authority.pem(&["127.0.0.1"]);
        write("server.crt", &certificate);
        write("server.key", &key);
        for (name, text) in files {
            write(&format!("files/{name}"), text);
        }
        write("nginx.conf", &configuration(path, port));
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "nginx"])
            .args([path.join("nginx.conf"), path.join("pid")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(keeper.stdout.take().unwrap())
            .read_line(&mut said)
            .unwrap();
        assert_eq!(
            said, "ready\n",
            "nginx does not start (Debian: nginx-light)"
        );
        Nginx {
            keeper,
            directory,
            port,
        }
    }

    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The requests that it has answered: method, path, status and protocol of each, in order.
    pub fn ledger(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.directory.path().join("access.log")).unwrap();
        log.lines().map(str::to_owned).collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        self.keeper.wait().unwrap();
    }
}

fn configuration(path: &Path, port: u16) -> String {
    let path = path.display();
    // Where it is root, its workers would be somebody who cannot read the directory.
    let user = match rustix::process::geteuid().is_root() {
        true => "user root;",
        false => "",
    };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("{what}_temp_path {path}/{what};\n"))
        .concat();
    format!(
        "{user} daemon off; worker_processes 1; pid {path}/pid; error_log stderr warn;\n\
         events {{}}\n\
         http {{\n\
         {temporary}\
         log_format ledger '$request_method $uri $status $server_protocol';\n\
         access_log {path}/access.log ledger;\n\
         types {{ application/json json; text/html html; }}\n\
         server {{\n\
         listen 127.0.0.1:{port} ssl http2;\n\
         ssl_certificate {path}/server.crt; ssl_certificate_key {path}/server.key;\n\
         root {path}/files;\n\
         }}\n\
         }}\n"
    )
}
