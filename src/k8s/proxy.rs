//! The proxy of the environment, and who is reached without it.
//!
//! The rules are those of Go's tools, which everybody in this field writes `NO_PROXY` for.

use std::net::IpAddr;

/// What `HTTPS_PROXY` and `NO_PROXY` say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxySettings {
    /// The proxy's URL.
    pub https_proxy: Option<String>,
    /// The list of hosts, domains, addresses and networks reached without it.
    pub no_proxy: Option<String>,
}

impl ProxySettings {
    /// As the process's environment says, in either case of the names.
    pub fn from_environment() -> Self {
        Self::from_variables(|name| {
            #[expect(
                clippy::disallowed_methods,
                reason = "as every HTTP client does; no setting of ours is read here"
            )]
            let value = std::env::var(name);
            value.ok()
        })
    }

    /// As variables say.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&str]| {
            names.iter().find_map(|name| {
                variable(name)
                    .map(|text| text.trim().to_owned())
                    .filter(|text| !text.is_empty())
            })
        };
        Self {
            https_proxy: first(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]),
            no_proxy: first(&["NO_PROXY", "no_proxy"]),
        }
    }

    /// The proxy through which a host is reached; `None` for directly.
    pub fn for_host(&self, host: &str, port: u16) -> Option<&str> {
        let proxy = self.https_proxy.as_deref()?;
        let excepted = self
            .no_proxy
            .as_deref()
            .is_some_and(|list| list.split(',').any(|entry| excepts(entry, host, port)));
        (!excepted).then_some(proxy)
    }
}

/// Whether one entry of `NO_PROXY` is about the host.
fn excepts(entry: &str, host: &str, port: u16) -> bool {
    let entry = entry.trim().to_ascii_lowercase();
    let host = host
        .trim_matches(['[', ']'])
        .trim_end_matches('.')
        .to_ascii_lowercase();
    if entry.is_empty() || entry == "*" {
        return entry == "*";
    }
    let address = host.parse::<IpAddr>().ok();
    if let Some((network, bits)) = entry.split_once('/') {
        let (Ok(network), Ok(bits), Some(address)) =
            (network.parse::<IpAddr>(), bits.parse::<u32>(), address)
        else {
            return false;
        };
        return in_network(address, network, bits);
    }
    if let Ok(entry) = entry.trim_matches(['[', ']']).parse::<IpAddr>() {
        return address == Some(entry);
    }
    let (name, entry_port) = match entry.rsplit_once(':') {
        Some((name, text)) => match text.parse::<u16>() {
            Ok(number) => (name, Some(number)),
            Err(_) => (entry.as_str(), None),
        },
        None => (entry.as_str(), None),
    };
    if entry_port.is_some_and(|number| number != port) {
        return false;
    }
    if let Ok(entry) = name.trim_matches(['[', ']']).parse::<IpAddr>() {
        return address == Some(entry);
    }
    // ".example.com" and "*.example.com" are about names below; "example.com" about itself too.
    match name.strip_prefix("*.").or_else(|| name.strip_prefix('.')) {
        Some(domain) => host
            .strip_suffix(domain)
            .is_some_and(|front| front.ends_with('.')),
        None => host
            .strip_suffix(name)
            .is_some_and(|front| front.is_empty() || front.ends_with('.')),
    }
}

fn in_network(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    let prefix = |value: u128, width: u32| {
        if bits == 0 {
            0
        } else {
            value >> width.saturating_sub(bits)
        }
    };
    match (address, network) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            bits <= 32 && prefix(u128::from(one.to_bits()), 32) == prefix(u128::from(other.to_bits()), 32)
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            bits <= 128 && prefix(one.to_bits(), 128) == prefix(other.to_bits(), 128)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_are_read_as_go_reads_them() {
        let rows = [
            ("*", "anything.example", true),
            ("", "shop.example.com", false),
            ("example.com", "example.com", true),
            ("example.com", "shop.example.com", true),
            ("example.com", "shopexample.com", false),
            (".example.com", "shop.example.com", true),
            (".example.com", "example.com", false),
            ("*.example.com", "shop.example.com", true),
            (" localhost , example.com ", "Shop.Example.COM.", true),
            ("127.0.0.1,localhost", "127.0.0.1", true),
            ("127.0.0.1,localhost", "127.0.1.1", false),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("0.0.0.0/0", "11.1.2.3", true),
            ("10.0.0.0/8", "10.example.com", false),
            ("fd00::/8", "fd12::1", true),
            ("::1", "[::1]", true),
            ("example.com:443", "example.com", true),
            ("example.com:8443", "example.com", false),
            ("10.0.0.1:443", "10.0.0.1", true),
            ("127.0.0.1,localhost,", "shop.example.com", false),
        ];
        for (no_proxy, host, excepted) in rows {
            let proxy = ProxySettings {
                https_proxy: Some("http://proxy:1".into()),
                no_proxy: Some(no_proxy.into()),
            };
            assert_eq!(
                proxy.for_host(host, 443).is_none(),
                excepted,
                "{no_proxy} for {host}"
            );
        }
    }

    #[test]
    fn names_in_capitals_win() {
        let variables = |name: &str| match name {
            "HTTPS_PROXY" => Some("http://one".to_owned()),
            "https_proxy" => Some("http://two".to_owned()),
            "NO_PROXY" => Some(" ".to_owned()),
            "no_proxy" => Some("x".to_owned()),
            _ => None,
        };
        let proxy = ProxySettings::from_variables(variables);
        assert_eq!(
            (proxy.https_proxy.as_deref(), proxy.no_proxy.as_deref()),
            (Some("http://one"), Some("x"))
        );
    }
}
