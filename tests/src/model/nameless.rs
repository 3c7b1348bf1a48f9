//! The naive way to find the call of a message that names none: the last call of that extension and number, if it is
//! still going on.

use trunklog_storage::event::{Event, Micros};
use trunklog_storage::fact::{CallRef, Decoded};

/// A repeat within this time belongs to the call that it repeats a message of.
const TWO_SECONDS: Micros = 2_000_000;

struct Call {
    line: (String, String),
    number: String,
    key: String,
    ended: bool,
    last_received_at: Micros,
    last_fingerprint: [u8; 32],
}

/// All calls without ids, in the order in which they began.
#[derive(Default)]
pub(super) struct Nameless {
    calls: Vec<Call>,
    /// Which number each message was about, by tenant and extension, in the order of the log.
    numbers: Vec<((String, String), String)>,
}

impl Nameless {
    /// The key of the message's call. Must be asked in log order.
    pub(super) fn key(&mut self, reference: &CallRef, event: &Event, decoded: &Decoded) -> String {
        let (extension, number, starts, ends) = match reference {
            CallRef::Key(key) => return key.to_string(),
            CallRef::Open { extension, number, starts, ends } => (extension, number, *starts, *ends),
        };
        let line = (event.tenant.to_string(), extension.clone());
        let mut number = number.clone();
        if number.is_empty() && !starts {
            // Later messages of a call may leave its number out.
            let last = self.numbers.iter().rev().find(|(of, _)| *of == line);
            number = last.map_or(number, |(_, last)| last.clone());
        }
        self.numbers.push((line.clone(), number.clone()));
        let last = self.calls.iter_mut().rev().find(|call| call.line == line && call.number == number);
        let open = last.filter(|call| {
            let near = (event.received_at - call.last_received_at).abs() <= TWO_SECONDS;
            let repeats = near && call.last_fingerprint == decoded.fingerprint;
            repeats || !(call.ended || starts)
        });
        if let Some(call) = open {
            call.ended |= ends;
            (call.last_received_at, call.last_fingerprint) = (event.received_at, decoded.fingerprint);
            return call.key.clone();
        }
        let escape = |text: &str| text.replace('%', "%25").replace('~', "%7E");
        let key = format!("~{}~{}~{}", escape(extension), escape(&number), event.id);
        self.calls.push(Call {
            line,
            number,
            key: key.clone(),
            ended: ends,
            last_received_at: event.received_at,
            last_fingerprint: decoded.fingerprint,
        });
        key
    }
}
