//! Which addresses a name may mean. The owner of a DNS zone may let a name point anywhere, so a granted name never
//! reaches addresses of this machine or its network segment.

use std::net::IpAddr;

/// Whether a grant for this name may use this address. A name never means this machine or its own network segment;
/// `localhost` and the names below it mean only this machine.
pub fn may_be_named(host: &str, ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if host == "localhost" || host.ends_with(".localhost") {
        return ip.is_loopback();
    }
    let local = match ip {
        // 169.254.169.254 is the metadata service of clouds, which has secrets; 0.0.0.0 connects to this machine.
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast() || ip.octets()[0] == 0,
        // fe80::/10, and fd00:ec2::254, the same metadata service over IPv6.
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
}
