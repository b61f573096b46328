//! The thread that writes, while a disk fails and when it is back.

use super::faults::{Call, EIO, ENOSPC, EROFS, Fault, Memory};
use super::*;
use crate::node::input::Input;

/// What the thread says next of tickets and of the disk's health.
fn next(inbox: &smol::channel::Receiver<Input>) -> Result<Ticket, Result<(), String>> {
    match inbox.recv_blocking() {
        Ok(Input::Stored(ticket)) => Ok(ticket),
        Ok(Input::StoreHealth(health)) => Err(health),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_disk_that_fails_is_told_once_and_again_when_it_takes_what_waited() {
    for (kind, errno, what) in [(Call::Write, EROFS, "Read-only"), (Call::Sync, EIO, "Input/output"), (Call::Write, ENOSPC, "No space")] {
        let memory = Memory::default();
        let (store, _) = Store::open(memory.clone()).expect("a new store");
        let (inbox, told) = smol::channel::bounded(16);
        let writer = store.start(inbox).expect("a thread");
        writer.put(batch(1, "before", 10)).expect("room");
        assert_eq!(next(&told), Ok(Ticket(1)));
        memory.break_down(Fault { kind: Some(kind), after: 0, errno });
        writer.put(batch(2, "meanwhile", 10)).expect("room");
        let health = next(&told).expect_err("nothing is on disk").expect_err("it fails");
        assert!(health.contains(what) && health.contains("journal"), "{health}");
        // What comes meanwhile waits behind it.
        writer.put(batch(3, "meanwhile, too", 10)).expect("room");
        memory.break_down(Fault::default());
        assert_eq!((next(&told), next(&told)), (Ok(Ticket(3)), Err(Ok(()))), "{what}");
        drop(writer);
        let (_, restored) = Store::open(memory).expect("the store");
        assert_eq!((restored.rows.len(), restored.last), (3, Ticket(3)), "{what}");
    }
}
