//! Stories on a real containerd, over the real wire: `make live` brings a
//! containerd of its own and names it in `SELVEDGE_CONTAINERD`.

pub mod stand;
mod stories;
