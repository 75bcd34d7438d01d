//! Encrypted lines to PostgreSQL: a server with a certificate that a test has made, trusted or not.

use std::path::Path;
use std::process::Command;

use crate::support::place::Place;
use crate::support::postgres::Cluster;

/// Makes in `$1` two authorities, and a certificate of the first for a server named localhost.
const CERTIFICATES: &str = r#"
set -e
cd "$1"
for name in ours other; do
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=$name" \
    -addext "basicConstraints=critical,CA:TRUE" -keyout $name.key -out $name.crt
done
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=localhost" -keyout server.key -out server.csr
printf 'subjectAltName=DNS:localhost\n' >names
openssl x509 -req -in server.csr -CA ours.crt -CAkey ours.key -CAcreateserial -days 2 -extfile names -out server.crt
"#;

fn certificates(directory: &Path) {
    let made = Command::new("sh")
        .args(["-c", CERTIFICATES, "sh"])
        .arg(directory)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "is openssl installed? {said}");
}

#[test]
fn a_line_is_encrypted_as_the_address_asks_and_never_to_a_server_that_is_not_trusted() {
    let keys = tempfile::tempdir().unwrap();
    certificates(keys.path());
    let cluster = Cluster::encrypted(keys.path());
    let place = Place::new();
    let (port, authority) = (cluster.port(), |name: &str| keys.path().join(name));
    // Asks for the list of tasks; answers with what came of it, and whether the line was encrypted.
    let ask = |host: &str, mode: &str, trusted: &str| {
        let url = format!("postgres://postgres@{host}:{port}/postgres?sslmode={mode}");
        let trusted = authority(trusted).display().to_string();
        let before = cluster.log().len();
        let variables = [
            ("FISHWAY_DATABASE", url.as_str()),
            ("SSL_CERT_FILE", trusted.as_str()),
        ];
        let ran = place.run_env(&["list"], &variables);
        let log = cluster.log();
        let encrypted = log[before..].contains("SSL enabled");
        let clear = (log[before..].lines())
            .any(|line| line.contains("connection authorized") && !line.contains("SSL enabled"));
        (ran, encrypted, clear)
    };
    for mode in ["require", "verify-ca", "verify-full", "prefer"] {
        let (ran, encrypted, clear) = ask("localhost", mode, "ours.crt");
        ran.ok();
        assert_eq!((encrypted, clear), (true, false), "{mode}");
    }
    for (mode, trusted) in [("disable", "ours.crt"), ("prefer", "other.crt")] {
        let (ran, encrypted, clear) = ask("localhost", mode, trusted);
        ran.ok();
        assert_eq!((encrypted, clear), (false, true), "{mode} {trusted}");
    }
    // Another authority, and a host that the certificate does not name.
    for mode in ["require", "verify-ca", "verify-full"] {
        for (host, trusted) in [("localhost", "other.crt"), ("127.0.0.1", "ours.crt")] {
            let (ran, encrypted, clear) = ask(host, mode, trusted);
            ran.refused(1, "database postgres gives no encrypted line", "trusted");
            assert_eq!((encrypted, clear), (false, false), "{mode} {host}");
        }
    }
}
