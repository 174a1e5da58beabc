//! The driver's side of streams: moves chunks from sources to the machine as far as it has room, and from the machine to sinks.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use parlour_proto::link::{Command, Input, LinkError, StreamId};
use parlour_wire::{Code, header::Fault};

use crate::{
    port::{StreamControl, closed},
    pump::Pump,
    streams::{End, Next, SinkCell, SourceCell},
};

/// The streams of a link that have handles.
#[derive(Default)]
pub(crate) struct Flows {
    sinks: BTreeMap<StreamId, Arc<SinkCell>>,
    /// Sinks that were made while there was no connection, with their credit.
    early: BTreeMap<StreamId, u64>,
    sources: BTreeMap<StreamId, Arc<SourceCell>>,
    /// Sources that may have something for the machine.
    ready: VecDeque<StreamId>,
}

impl Flows {
    pub(crate) fn control(&mut self, control: StreamControl, pump: &mut Pump, now: Instant) {
        match control {
            StreamControl::Sink { stream, credit, cell } => {
                self.sinks.insert(stream, cell);
                if pump.machine.is_up() {
                    self.open_sink(stream, credit, pump, now);
                } else {
                    self.early.insert(stream, credit);
                }
            }
            StreamControl::Grant { stream, credit } => {
                pump.handle(Input::Command(Command::Grant { stream, credit }), now);
            }
            StreamControl::Stop { stream, fault } => {
                self.sinks.remove(&stream);
                self.early.remove(&stream);
                pump.handle(Input::Command(Command::Stop { stream, fault }), now);
            }
            StreamControl::Source { stream, credit, cell } => {
                match pump.machine.handle(Input::Command(Command::Source { stream, credit }), now) {
                    Ok(()) => drop(self.sources.insert(stream, cell)),
                    Err(error) => cell.end(refused(error)),
                }
            }
            StreamControl::Ready { stream } => self.ready.push_back(stream),
        }
    }

    fn open_sink(&mut self, stream: StreamId, credit: u64, pump: &mut Pump, now: Instant) {
        if let Err(error) = pump.machine.handle(Input::Command(Command::Sink { stream, credit }), now)
            && let Some(cell) = self.sinks.remove(&stream)
        {
            cell.end(Err(refused(error)));
        }
    }

    /// A connection is there.
    pub(crate) fn on_up(&mut self, pump: &mut Pump, now: Instant) {
        for (stream, credit) in std::mem::take(&mut self.early) {
            self.open_sink(stream, credit, pump, now);
        }
    }

    pub(crate) fn on_data(&mut self, stream: StreamId, mark: Bytes, content: Bytes, cost: u64) {
        if let Some(cell) = self.sinks.get(&stream) {
            cell.push(mark, content, cost);
        }
    }

    pub(crate) fn on_ended(&mut self, stream: StreamId, result: Result<Bytes, Fault>) {
        if let Some(cell) = self.sinks.remove(&stream) {
            cell.end(result);
        }
    }

    pub(crate) fn on_credit(&mut self, stream: StreamId) {
        self.ready.push_back(stream);
    }

    pub(crate) fn on_stopped(&mut self, stream: StreamId, fault: Fault) {
        if let Some(cell) = self.sources.remove(&stream) {
            cell.end(fault);
        }
    }

    /// Gives the machine what it has room for.
    pub(crate) fn feed(&mut self, pump: &mut Pump, now: Instant) {
        while let Some(stream) = self.ready.pop_front() {
            if let Some(cell) = self.sources.get(&stream).cloned() {
                self.feed_one(stream, &cell, pump, now);
            }
        }
    }

    fn feed_one(&mut self, stream: StreamId, cell: &SourceCell, pump: &mut Pump, now: Instant) {
        loop {
            let (command, last) = match cell.next(pump.machine.stream_room(stream)) {
                Next::Nothing => return,
                Next::Blocked(mark, content) => {
                    // It is refused, and so the machine says when there is room; or the stream is over, which is told too.
                    let command = Command::Data { stream, mark, content };
                    let refused = pump.machine.handle(Input::Command(command), now).is_err();
                    debug_assert!(refused, "room that was not there");
                    return;
                }
                Next::Chunk(mark, content) => (Command::Data { stream, mark, content }, false),
                Next::End(End::Finish(content)) => (Command::Finish { stream, content }, true),
                Next::End(End::Abort(fault)) => (Command::Abort { stream, fault }, true),
            };
            let result = pump.machine.handle(Input::Command(command), now);
            if last || result.is_err() {
                self.sources.remove(&stream);
                return match result {
                    Ok(()) => cell.finish(),
                    Err(error) => cell.end(refused(error)),
                };
            }
        }
    }

    /// Whether there is something that [`Flows::feed`] would look at.
    pub(crate) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sinks.is_empty() && self.sources.is_empty()
    }

    /// The link is over.
    pub(crate) fn end(&mut self) {
        let Self { sinks, sources, .. } = std::mem::take(self);
        sinks.into_values().for_each(|cell| cell.end(Err(closed())));
        sources.into_values().for_each(|cell| cell.end(closed()));
    }
}

fn refused(error: LinkError) -> Fault {
    let code = match error {
        LinkError::Refused(refusal) => refusal.code(),
        LinkError::Violation(_) | LinkError::Overrun => Code::INTERNAL,
    };
    Fault { code, message: error.to_string(), retry_after_ms: None }
}
