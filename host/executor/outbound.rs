//! Where a guest may connect to: the addresses that its grants mean, and no others.
//!
//! `wasi` asks for each connection, with the very address that is connected to, so a name that is
//! another address a moment later gains nothing. Nothing here opens a connection.

use std::net::{IpAddr, SocketAddr};

use crate::limits::{OutboundHost, may_be_named};

/// Whether one of the grants means this address. An address means itself. A name means every address
/// that it has at this moment, except those that only this machine or its own network segment knows:
/// whoever owns a name's zone may let it point there.
pub async fn may_connect(allowed: &[OutboundHost], address: SocketAddr) -> bool {
    for OutboundHost { host, port } in allowed {
        if port.is_some_and(|port| port != address.port()) {
            continue;
        }
        if let Ok(ip) = host.parse::<IpAddr>() {
            if ip == address.ip() {
                return true;
            }
            continue;
        }
        if !may_be_named(host, address.ip()) {
            continue;
        }
        let name = (host.clone(), address.port());
        let found = tokio::task::spawn_blocking(move || {
            std::net::ToSocketAddrs::to_socket_addrs(&name).map(|found| found.collect::<Vec<_>>())
        });
        if let Ok(Ok(found)) = found.await
            && found.iter().any(|known| known.ip() == address.ip())
        {
            return true;
        }
    }
    false
}

/// The log message of a task for a refused connection, with the grant that would allow it; the guest gets only a code.
pub fn refusal(allowed: &[OutboundHost], address: SocketAddr) -> String {
    let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
    let allowed = allowed.join(", ");
    format!(
        "no connection to {address}: grants.allowed-outbound-hosts of its manifest means other addresses ({allowed}); \
         a name never means this machine or its own segment, an address means itself; \
         allowed-outbound-hosts = [\"{address}\"] would allow it"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_that_is_found_to_be_this_machine_is_refused_when_it_is_connected_to() {
        // What resolvers take for names of addresses, with no help of any zone.
        let check = async |granted: &str, address: &str, expected: bool| {
            let allowed = [format!("{granted}:80").parse().unwrap()];
            let found = may_connect(&allowed, address.parse().unwrap()).await;
            assert_eq!(found, expected, "{granted} at {address}");
        };
        check("10.1", "10.0.0.1:80", true).await;
        check("10.1", "10.0.0.2:80", false).await;
        check("127.1", "127.0.0.1:80", false).await;
        check("0x7f000001", "127.0.0.1:80", false).await;
        check("0", "0.0.0.0:80", false).await;
        check("0xa9fea9fe", "169.254.169.254:80", false).await;
        check("localhost", "127.0.0.1:80", true).await;
        check("localhost", "127.0.0.9:80", false).await;
    }

    #[test]
    fn a_refusal_names_the_grant_that_would_allow_the_connection() {
        let allowed = ["example.com:443".parse().unwrap()];
        for address in ["127.0.0.1:5432", "[::1]:5432"] {
            let said = refusal(&allowed, address.parse().unwrap());
            let grant = format!("allowed-outbound-hosts = [\"{address}\"] would allow it");
            assert!(said.ends_with(&grant), "{said}");
            assert!(said.contains("(example.com:443)"), "{said}");
            address.parse::<OutboundHost>().unwrap();
        }
    }

    #[tokio::test]
    async fn an_address_that_is_granted_means_itself_wherever_it_is() {
        let allowed = ["127.0.0.1:80", "[::1]"].map(|text| text.parse().unwrap());
        let check = async |address: &str, expected: bool| {
            let found = may_connect(&allowed, address.parse().unwrap()).await;
            assert_eq!(found, expected, "{address}");
        };
        check("127.0.0.1:80", true).await;
        check("127.0.0.1:81", false).await;
        check("127.0.0.2:80", false).await;
        check("[::1]:9", true).await;
        check("[::ffff:127.0.0.1]:80", false).await;
    }
}
