//! What a guest asks of the network before it has an address: a name, or a socket.
//!
//! WASI's own functions answer by the grants of the manifest, which [`super::wasi`] has set. A guest whose
//! manifest grants no network gets only an error code from them, so this module writes to its log what the
//! guest asked for and which grant would allow it.

use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::p2::bindings::sockets::network::{self, ErrorCode, IpAddress, IpAddressFamily};
use wasmtime_wasi::p2::bindings::sockets::{ip_name_lookup, tcp_create_socket, udp_create_socket};
use wasmtime_wasi::p2::{
    DynPollable, Network as GuestNetwork, SocketError, SocketResult, TcpSocket, UdpSocket,
};
use wasmtime_wasi::sockets::WasiSocketsView;

use super::guest::Guest;
use crate::store::LogLevel;

/// Characters of a name that the log shows: more than a name has.
const NAME_CHARS_MAX: usize = 253;

/// Put these functions in the place of WASI's own.
pub fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    ip_name_lookup::add_to_linker::<Guest, Network>(linker, |guest| Asking(guest))?;
    tcp_create_socket::add_to_linker::<Guest, Network>(linker, |guest| Asking(guest))?;
    udp_create_socket::add_to_linker::<Guest, Network>(linker, |guest| Asking(guest))?;
    linker.allow_shadowing(false);
    Ok(())
}

struct Network;

impl HasData for Network {
    type Data<'a> = Asking<'a>;
}

struct Asking<'a>(&'a mut Guest);

impl Asking<'_> {
    /// Say in the log what a guest asked for that has no network.
    fn say(&self, what: &str) {
        let grants = &self.0.handler.manifest.grants;
        if grants.allowed_outbound_hosts.is_empty() {
            let line = format!(
                "no {what}: its manifest grants no network; [grants] allowed-outbound-hosts = [\"example.com:443\"] \
                 would allow connections to that host and port"
            );
            self.0.log.line(LogLevel::Warn, &line);
        }
    }
}

impl ip_name_lookup::Host for Asking<'_> {
    fn resolve_addresses(
        &mut self,
        network: Resource<GuestNetwork>,
        name: String,
    ) -> Result<Resource<ip_name_lookup::ResolveAddressStream>, SocketError> {
        let shown: String = name.chars().take(NAME_CHARS_MAX).collect();
        self.say(&format!("address of {shown:?}"));
        ip_name_lookup::Host::resolve_addresses(&mut self.0.sockets(), network, name)
    }
}

impl ip_name_lookup::HostResolveAddressStream for Asking<'_> {
    fn resolve_next_address(
        &mut self,
        stream: Resource<ip_name_lookup::ResolveAddressStream>,
    ) -> Result<Option<IpAddress>, SocketError> {
        ip_name_lookup::HostResolveAddressStream::resolve_next_address(
            &mut self.0.sockets(),
            stream,
        )
    }

    fn subscribe(
        &mut self,
        stream: Resource<ip_name_lookup::ResolveAddressStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        ip_name_lookup::HostResolveAddressStream::subscribe(&mut self.0.sockets(), stream)
    }

    fn drop(
        &mut self,
        stream: Resource<ip_name_lookup::ResolveAddressStream>,
    ) -> wasmtime::Result<()> {
        ip_name_lookup::HostResolveAddressStream::drop(&mut self.0.sockets(), stream)
    }
}

impl tcp_create_socket::Host for Asking<'_> {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<TcpSocket>> {
        self.say("connection by TCP");
        tcp_create_socket::Host::create_tcp_socket(&mut self.0.sockets(), family)
    }
}

impl udp_create_socket::Host for Asking<'_> {
    async fn create_udp_socket(
        &mut self,
        family: IpAddressFamily,
    ) -> SocketResult<Resource<UdpSocket>> {
        let line = "no connection by UDP: no manifest can grant it";
        self.0.log.line(LogLevel::Warn, line);
        udp_create_socket::Host::create_udp_socket(&mut self.0.sockets(), family).await
    }
}

impl network::Host for Asking<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        network::Host::convert_error_code(&mut self.0.sockets(), error)
    }

    fn network_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        network::Host::network_error_code(&mut self.0.sockets(), error)
    }
}

impl network::HostNetwork for Asking<'_> {
    fn drop(&mut self, network: Resource<GuestNetwork>) -> wasmtime::Result<()> {
        network::HostNetwork::drop(&mut self.0.sockets(), network)
    }
}
