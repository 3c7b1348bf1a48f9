//! Golden scenarios: what a call of each telephone system looks like on the wire, and the rows of `calls` that it must
//! come to, worked out from `protocols.md` by hand. One readable file each in `tests/data/scenarios/<source>/`.
//!
//! | member of a file | |
//! |---|---|
//! | `about` | the sections of `protocols.md` (or of the paper that is named), and what happens |
//! | `order` | `sent` where the protocol says that the order counts; else every order must give the same |
//! | `messages` | `at` (receipt, seconds after [`data::START`]), `method`, `path`, `type`, `body` |
//! | `calls` | one object per call: columns as SQL shows them; those left out may be anything |
//!
//! In paths and bodies `{gregorian+8}` is Kazoo's time 8 seconds after the start and `{local+8}` VOIspeed's (Rome). In
//! rows a time is `+8`, and `related_keys` names related calls by the source's own keys.
//!
//! Every file is folded in this process, in many orders ([`in_process`]), and through the binary ([`over_http`]).

mod data;
mod in_process;
mod kazoo;
mod lifecycle;
mod over_http;
mod placetel;
mod planfix;
mod shown;
mod virtualpbx;
mod voispeed;

use data::Scenario;

/// Folds all scenarios of a source in all orders; `named` are those that the papers ask for by name.
#[track_caller]
fn hold(source: &str, named: &[&str]) {
    let scenarios = Scenario::of_source(source);
    for name in named {
        assert!(scenarios.iter().any(|scenario| scenario.name == *name), "there is no {source}/{name}.json");
    }
    let problems: Vec<String> = scenarios.iter().flat_map(in_process::problems).collect();
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}
