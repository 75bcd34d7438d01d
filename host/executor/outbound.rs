//! Where a guest may connect to: the addresses that its grants mean, and no others.
//!
//! `wasi` asks for each connection, with the very address that is connected to, so a name that is
//! another address a moment later gains nothing. Nothing here opens a connection.

use std::net::{IpAddr, SocketAddr};

use crate::limits::OutboundHost;

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

/// What the log of a task says of a connection that it may not make; all that the guest sees is a
/// code.
pub fn refusal(allowed: &[OutboundHost], address: SocketAddr) -> String {
    let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
    let allowed = allowed.join(", ");
    format!(
        "no connection to {address}: grants.allowed-outbound-hosts of its manifest means other addresses ({allowed}); \
         a name never means this machine or its own segment, an address means itself"
    )
}

/// Whether a grant by this name may mean an address like that.
fn may_be_named(host: &str, ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if host == "localhost" || host.ends_with(".localhost") {
        return ip.is_loopback();
    }
    let local = match ip {
        // 169.254.169.254 is where clouds tell their machines' secrets; 0.0.0.0 connects to this one.
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast() || ip.octets()[0] == 0,
        // fe80::/10, and fd00:ec2::254, which is the same secret in another family.
        IpAddr::V6(ip) => {
            ip.is_unicast_link_local() || ip.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254]
        }
    };
    !(local || ip.is_loopback() || ip.is_unspecified() || ip.is_multicast())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_granted_name_never_means_this_machine_or_its_own_segment() {
        let check = |host: &str, address: &str, expected: bool| {
            let found = may_be_named(host, address.parse().unwrap());
            assert_eq!(found, expected, "{host} at {address}");
        };
        for address in [
            "127.0.0.1",
            "127.8.8.8",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
        ] {
            check("example.com", address, false);
        }
        for address in [
            "93.184.215.14",
            "10.0.0.7",
            "192.168.1.2",
            "2606:2800::1",
            "fd12::1",
        ] {
            check("example.com", address, true);
            check("localhost", address, false);
        }
        for host in ["localhost", "LOCALHOST.", "db.localhost"] {
            check(host, "127.0.0.1", true);
            check(host, "::1", true);
            check(host, "169.254.169.254", false);
        }
    }

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
