//! relay's userspace: from one file to a WireGuard hub whose traffic eBPF forwards, or to a home that dials one.

pub mod adopt;
pub mod cli;
pub mod command;
pub mod config;
pub mod control;
pub mod daemon;
pub mod datapath_plan;
pub mod desired;
pub mod error;
pub mod failure;
pub mod fast_path;
pub mod file_name;
pub mod firewall;
pub mod history;
pub mod host;
pub mod import;
pub mod invitation;
pub mod kernel;
pub mod key;
pub mod lan;
pub mod maps;
pub mod metrics;
pub mod name;
pub mod observed;
pub mod peer_config;
pub mod plan;
pub mod qr;
pub mod report;
<<<<<<< HEAD
pub mod service;
pub mod service_manager;
mod sqlite;
=======
pub mod resolver;
>>>>>>> home
pub mod stats;
pub mod table;
pub mod watch;
