//! relay's own program, as it is shipped, with its maps filled by hand.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, LpmTrie, Map, lpm_trie::Key},
    programs::{SchedClassifier, TcAttachType},
};
use relay_common::{Direct4, Direct6, Route, Switches, global, map, program};

use crate::{net::Routes, programs::attach};

/// The program, loaded.
pub(crate) struct Tunnel {
    pub(crate) ebpf: Ebpf,
}

impl Tunnel {
    /// Loads it for packets with so many bytes in front of the IP header, switched on.
    pub(crate) fn load(objects: &Path, l2_len: u32, routes: &Routes) -> Result<Self> {
        let object = objects.join("relay.bpf.o");
        let ebpf = EbpfLoader::new()
            .override_global(global::L2_LEN, &l2_len, true)
            .load_file(&object)
            .with_context(|| format!("loading {}", object.display()))?;
        let mut tunnel = Self { ebpf };
        tunnel.fill(routes).context("filling the maps")?;
        // None of them has another one's place: `fill` sees to it.
        let on = Switches { fast_path: 1, trace: 0, all_direct4: 1, all_direct6: 1 };
        let mut switches: Array<_, [u32; 4]> = tunnel.map(map::SWITCHES)?.try_into()?;
        switches.set(0, bytemuck::cast::<_, [u32; 4]>(on), 0)?;
        tunnel.program()?.load().context("loading the program `tunnel`")?;
        Ok(tunnel)
    }

    /// Puts it on a device.
    pub(crate) fn on(&mut self, device: &str) -> Result<()> {
        attach(self.program()?, device, TcAttachType::Ingress)
            .with_context(|| format!("attaching to {device}"))
    }

    pub(crate) fn program(&mut self) -> Result<&mut SchedClassifier> {
        let tunnel = self.ebpf.program_mut(program::TUNNEL).context("relay.bpf.o has no program `tunnel`")?;
        Ok(tunnel.try_into()?)
    }

    fn fill(&mut self, routes: &Routes) -> Result<()> {
        let value = |route: Route| bytemuck::cast::<_, u32>(route);
        let mut table: Array<_, u64> = self.map(map::DIRECT4)?.try_into()?;
        for (address, route) in &routes.hosts4 {
            let place = Direct4::place(address.octets());
            let entry = Direct4::new(address.octets(), *route).context("0.0.0.0 is nobody's")?;
            ensure!(table.get(&place, 0)? == 0, "two addresses of one place");
            table.set(place, bytemuck::cast::<_, u64>(entry), 0)?;
        }
        let mut table: Array<_, u64> = self.map(map::DIRECT6)?.try_into()?;
        let networks: BTreeSet<_> =
            routes.hosts6.iter().map(|(address, _)| Direct6::network(address.octets())).collect();
        ensure!(networks.len() <= 1, "two networks");
        for network in networks {
            table.set(Direct6::NETWORK, u64::from_ne_bytes(network), 0)?;
        }
        for (address, route) in &routes.hosts6 {
            let place = Direct6::place(address.octets());
            let entry = Direct6::new(address.octets(), *route).context("a slot that no peer can have")?;
            ensure!(table.get(&place, 0)? == 0, "two addresses of one place");
            table.set(place, bytemuck::cast::<_, u64>(entry), 0)?;
        }
        let mut lans: LpmTrie<_, [u8; 4], u32> = self.map(map::LANS4)?.try_into()?;
        for (address, length, route) in &routes.lans4 {
            lans.insert(&Key::new(*length, address.octets()), value(*route), 0)?;
        }
        let mut lans: LpmTrie<_, [u8; 16], u32> = self.map(map::LANS6)?.try_into()?;
        for (address, length, route) in &routes.lans6 {
            lans.insert(&Key::new(*length, address.octets()), value(*route), 0)?;
        }
        Ok(())
    }

    fn map(&mut self, name: &str) -> Result<&mut Map> {
        self.ebpf.map_mut(name).with_context(|| format!("relay.bpf.o has no map {name}"))
    }
}
