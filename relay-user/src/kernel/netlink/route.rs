//! Routes of the main and local tables.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::TryStreamExt as _;
use ipnet::IpNet;
use nix::libc;
use rtnetlink::{
    RouteMessageBuilder,
    packet_route::{
        AddressFamily,
        route::{
            RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteProtocol, RouteScope,
            RouteType,
        },
    },
};

use super::{Netlink, NetlinkError, error::errno};
use crate::observed::{KernelRoute, ROUTE_PROTOCOL};

/// `RT_TABLE_MAIN` and `RT_TABLE_LOCAL` of linux/rtnetlink.h.
const TABLES: [u32; 2] = [254, 255];

/// Where the host's default route leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Its name.
    pub interface: String,
    /// Its index.
    pub index: u32,
    /// Its addresses of both families, link-local ones left out.
    pub addresses: Vec<IpAddr>,
}

impl Netlink {
    /// The routes of the main and local tables, both families, cached clones left out.
    ///
    /// # Errors
    /// The kernel refuses the request.
    pub async fn routes(&self) -> Result<Vec<KernelRoute>, NetlinkError> {
        let mut routes = Vec::new();
        for request in
            [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()]
        {
            let messages = self.handle.route().get(request).execute();
            let messages: Vec<RouteMessage> = messages
                .try_collect()
                .await
                .map_err(|error| NetlinkError::request("list the routes", &error))?;
            routes.extend(messages.iter().filter_map(parse).filter(|route| TABLES.contains(&route.table)));
        }
        Ok(routes)
    }

    /// Adds a route to the main table: directly connected, with relay's protocol number. The same one again is no
    /// failure.
    ///
    /// # Errors
    /// [`NetlinkError::RouteTaken`]; the kernel refuses.
    pub async fn add_route(&self, destination: IpNet, index: u32) -> Result<(), NetlinkError> {
        let act = || format!("add the route to {destination} by interface number {index}");
        let message = message(destination).output_interface(index).scope(RouteScope::Link).build();
        let Err(error) = self.handle.route().add(message).execute().await else { return Ok(()) };
        if errno(&error) != Some(libc::EEXIST) {
            return Err(NetlinkError::request(act(), &error));
        }
        let ours = |route: &KernelRoute| {
            route.destination == destination.trunc()
                && route.interface == Some(index)
                && route.protocol == ROUTE_PROTOCOL
        };
        if self.routes().await?.iter().any(ours) {
            Ok(())
        } else {
            Err(NetlinkError::RouteTaken(destination))
        }
    }

    /// Removes a route that relay made; one that is gone already is no failure.
    ///
    /// # Errors
    /// [`NetlinkError::NotOurRoute`]; the kernel refuses.
    pub async fn remove_route(&self, route: &KernelRoute) -> Result<(), NetlinkError> {
        if route.protocol != ROUTE_PROTOCOL {
            return Err(NetlinkError::NotOurRoute(route.destination, route.protocol));
        }
        let mut message = message(route.destination)
            .table_id(route.table)
            .kind(RouteType::from(route.kind))
            .priority(route.metric)
            .scope(RouteScope::NoWhere);
        if let Some(index) = route.interface {
            message = message.output_interface(index);
        }
        match self.handle.route().del(message.build()).execute().await {
            Err(error) if errno(&error) == Some(libc::ESRCH) => Ok(()),
            Err(error) => {
                Err(NetlinkError::request(format!("remove the route to {}", route.destination), &error))
            }
            Ok(()) => Ok(()),
        }
    }

    /// The interface of the default route: IPv4's with the lowest metric, else IPv6's.
    ///
    /// # Errors
    /// The kernel refuses the request.
    pub async fn uplink(&self) -> Result<Option<Uplink>, NetlinkError> {
        let routes = self.routes().await?;
        let default = [false, true].into_iter().find_map(|ipv6| default_interface(&routes, ipv6));
        let Some(index) = default else { return Ok(None) };
        let Some(link) = self.links().await?.into_iter().find(|link| link.index == index) else {
            return Ok(None);
        };
        let addresses = self.addresses(index).await?.iter().map(IpNet::addr).collect();
        Ok(Some(Uplink { interface: link.name, index, addresses }))
    }
}

/// The interface of a family's default route, the one with the lowest metric.
#[must_use]
pub fn default_interface(routes: &[KernelRoute], ipv6: bool) -> Option<u32> {
    let unicast = u8::from(RouteType::Unicast);
    let main = |route: &&KernelRoute| {
        route.table == TABLES[0] && route.kind == unicast && route.destination.prefix_len() == 0
    };
    let default = routes
        .iter()
        .filter(main)
        .filter(|route| route.interface.is_some() && route.destination.addr().is_ipv6() == ipv6);
    default.min_by_key(|route| route.metric)?.interface
}

/// What adding and removing have in common. The builder cannot fail for a prefix that [`IpNet`] has accepted.
fn message(destination: IpNet) -> RouteMessageBuilder<IpAddr> {
    let destination = destination.trunc();
    let mut builder = RouteMessageBuilder::<IpAddr>::new().protocol(RouteProtocol::from(ROUTE_PROTOCOL));
    let message = builder.get_mut();
    message.header.address_family = match destination {
        IpNet::V4(_) => AddressFamily::Inet,
        IpNet::V6(_) => AddressFamily::Inet6,
    };
    message.header.destination_prefix_length = destination.prefix_len();
    message.attributes.push(RouteAttribute::Destination(destination.addr().into()));
    builder
}

fn parse(message: &RouteMessage) -> Option<KernelRoute> {
    let unspecified: IpAddr = match message.header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    if message.header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let mut destination = unspecified;
    let mut route = KernelRoute {
        destination: IpNet::from(unspecified),
        interface: None,
        gateway: None,
        protocol: message.header.protocol.into(),
        metric: 0,
        kind: message.header.kind.into(),
        table: message.header.table.into(),
        mtu: None,
        narrowed: message.header.source_prefix_length != 0 || message.header.tos != 0,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip(address)?,
            RouteAttribute::Oif(index) => route.interface = Some(*index),
            RouteAttribute::Gateway(address) => route.gateway = ip(address),
            RouteAttribute::Priority(metric) => route.metric = *metric,
            RouteAttribute::Table(table) => route.table = *table,
            RouteAttribute::Metrics(metrics) => {
                route.mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    route.destination = IpNet::new(destination, message.header.destination_prefix_length).ok()?;
    Some(route)
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(destination: &str, interface: Option<u32>, metric: u32, kind: u8, table: u32) -> KernelRoute {
        KernelRoute {
            destination: destination.parse().expect("prefix"),
            interface,
            gateway: None,
            protocol: 4,
            metric,
            kind,
            table,
            mtu: None,
            narrowed: false,
        }
    }

    #[test]
    fn the_uplink_is_the_best_default_route() {
        type Case = (&'static str, Vec<KernelRoute>, [Option<u32>; 2]);
        let cases: [Case; 6] = [
            ("none", vec![route("10.0.0.0/8", Some(9), 0, 1, 254)], [None, None]),
            (
                "lowest metric",
                vec![route("0.0.0.0/0", Some(2), 600, 1, 254), route("0.0.0.0/0", Some(3), 100, 1, 254)],
                [Some(3), None],
            ),
            (
                "each family has its own",
                vec![route("::/0", Some(2), 1, 1, 254), route("0.0.0.0/0", Some(3), 100, 1, 254)],
                [Some(3), Some(2)],
            ),
            ("IPv6 alone", vec![route("::/0", Some(2), 1024, 1, 254)], [None, Some(2)]),
            ("unreachable is no way out", vec![route("::/0", Some(1), u32::MAX, 7, 254)], [None, None]),
            ("other tables do not count", vec![route("0.0.0.0/0", Some(2), 0, 1, 255)], [None, None]),
        ];
        for (what, routes, expected) in cases {
            let found = [false, true].map(|ipv6| default_interface(&routes, ipv6));
            assert_eq!(found, expected, "{what}");
        }
    }
}
