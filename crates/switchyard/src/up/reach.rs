//! What services are told of how clients reach the stack, where the operator says nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::ports::{Place, Service};

/// Settings by which peerbook takes WebRTC connections at the UDP port of its own number, with the
/// operator's `public_ips`. None for a stack known by a name: a name is no address to tell clients.
pub(super) fn rtc(
    place: &Place,
    public: Option<&str>,
    public_ips: bool,
) -> Vec<(&'static str, String)> {
    let listen = |address: SocketAddr| ("RTC_LISTEN", address.to_string());
    let Some(host) = public else {
        return vec![listen(place.local())];
    };
    if public_ips {
        return vec![listen(place.public)];
    }
    let Ok(ip) = host.trim_matches(['[', ']']).parse::<IpAddr>() else { return Vec::new() };
    let every: IpAddr = match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let bound = if place.public.ip().is_unspecified() { every } else { place.public.ip() };
    let address = SocketAddr::new(bound, place.public.port());
    vec![listen(address), ("RTC_PUBLIC_IP", ip.to_string())]
}

/// What the connectivity page measures the way to: those of these services that a page can ask.
pub(super) fn checked<'a>(services: impl Iterator<Item = (Service, &'a str)>) -> String {
    let each = services.filter_map(|(service, url)| {
        let path = match service {
            Service::Relay => "/health",
            Service::Peerbook => "/",
            Service::Mesh => "/ip",
            Service::Signal | Service::PeerLinker | Service::ChannelHub => return None,
        };
        Some(format!("{}={url}{path}", service.name()))
    });
    each.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(listen: &str) -> Place {
        Place {
            service: Service::Peerbook,
            public: listen.parse().unwrap(),
            admin: "127.0.0.1:27777".parse().unwrap(),
        }
    }

    fn told(listen: &str, public: Option<&str>, public_ips: bool) -> Vec<String> {
        let settings = rtc(&place(listen), public, public_ips);
        settings.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn without_a_public_name_webrtc_is_for_this_machine() {
        assert_eq!(told("[::]:17777", None, false), ["RTC_LISTEN=127.0.0.1:17777"]);
        assert_eq!(told("192.0.2.7:17777", None, false), ["RTC_LISTEN=192.0.2.7:17777"]);
    }

    #[test]
    fn a_public_address_is_told_to_clients_and_a_name_is_not() {
        let v4 = ["RTC_LISTEN=0.0.0.0:17777", "RTC_PUBLIC_IP=203.0.113.5"];
        assert_eq!(told("[::]:17777", Some("203.0.113.5"), false), v4);
        let v6 = ["RTC_LISTEN=[::]:17777", "RTC_PUBLIC_IP=2001:db8::1"];
        assert_eq!(told("[::]:17777", Some("2001:db8::1"), false), v6);
        assert!(told("[::]:17777", Some("book.example.org"), false).is_empty());
        let own = told("[::]:17777", Some("book.example.org"), true);
        assert_eq!(own, ["RTC_LISTEN=[::]:17777"]);
    }

    #[test]
    fn the_page_measures_what_speaks_http() {
        let services = [
            (Service::Signal, "wss://example.org:443"),
            (Service::Relay, "https://example.org:444"),
            (Service::Mesh, "https://example.org:448"),
        ];
        assert_eq!(
            checked(services.into_iter()),
            "relay=https://example.org:444/health,mesh=https://example.org:448/ip"
        );
    }
}
