//! Streams: bulk data beside the frames that matter, in chunks, each covered by credit that its receiver has given.
//!
//! A stream goes one way and lives on one connection: nothing of it is numbered, acknowledged or sent again. Its receiver, the
//! sink, names it and bounds what may be under way; its sender, the source, keeps a short queue of chunks for the connection.
//! Sources take turns, chunk by chunk. A link without streams pays one empty pointer for them.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use parlour_wire::{
    Code, Frame, Kind,
    codec::bounded,
    encode,
    header::{self, Fault},
    limits,
};

use super::{
    Command, Event, Link, StreamId,
    error::{LinkError, Refusal, Violation},
    read_header,
    requests::{fault, fault_header, shorten},
};

/// Stops that wait for the connection. One more is dropped: its stream is stopped again when it sends again.
const STOPS: usize = 2 * limits::STREAMS;

/// The credit that a chunk with this much content takes.
#[must_use]
pub fn chunk_cost(content: usize) -> usize {
    content.max(limits::STREAM_CHUNK_COST)
}

/// The streams of one connection.
#[derive(Debug, Default)]
pub(super) struct Streams {
    sources: BTreeMap<StreamId, Source>,
    sinks: BTreeMap<StreamId, Sink>,
    /// Sources that have something to send, in the order of their turns.
    turns: VecDeque<StreamId>,
    /// Sinks with credit that the peer has not been told.
    grants: VecDeque<StreamId>,
    stops: VecDeque<(StreamId, Fault)>,
}

/// A stream that we send.
#[derive(Debug)]
struct Source {
    credit: u64,
    /// Cost of the chunks that wait.
    queued: usize,
    chunks: VecDeque<Chunk>,
    end: Option<End>,
    /// The application found no room, and is told when there is.
    starved: bool,
    /// Has its place among the turns.
    waiting: bool,
}

#[derive(Debug)]
struct Chunk {
    mark: Bytes,
    content: Bytes,
}

#[derive(Debug)]
enum End {
    Finish(Bytes),
    Abort(Fault),
}

/// A stream that we receive.
#[derive(Debug)]
struct Sink {
    /// What the peer may still send, as far as it has been told.
    credit: u64,
    /// Credit that it has not been told of.
    untold: u64,
    /// The peer knows the stream: it has sent something.
    known: bool,
}

impl Source {
    fn room(&self) -> usize {
        let credit = usize::try_from(self.credit).unwrap_or(usize::MAX);
        let room = credit.min(limits::STREAM_QUEUE - self.queued);
        if self.end.is_some() || room < limits::STREAM_CHUNK_COST { 0 } else { room }
    }

    /// Whether the application is to be told that there is more room than before.
    fn relieve(&mut self, before: usize) -> bool {
        self.room() > before && std::mem::take(&mut self.starved)
    }
}

impl Streams {
    fn source(&mut self, stream: StreamId) -> Result<&mut Source, Refusal> {
        self.sources.get_mut(&stream).filter(|source| source.end.is_none()).ok_or(Refusal::NoStream)
    }

    fn open_sink(&mut self, stream: StreamId, credit: u64) -> Result<(), Refusal> {
        check_place(&self.sinks, stream)?;
        // Whoever is given too little to send anything must hear of every grant, and sends nothing before.
        let known = credit < limits::STREAM_CHUNK_COST as u64;
        self.sinks.insert(stream, Sink { credit, untold: 0, known });
        Ok(())
    }

    fn open_source(&mut self, stream: StreamId, credit: u64) -> Result<(), Refusal> {
        check_place(&self.sources, stream)?;
        let mut source = Source { credit, queued: 0, chunks: VecDeque::new(), end: None, starved: false, waiting: false };
        source.starved = source.room() == 0;
        self.sources.insert(stream, source);
        Ok(())
    }

    fn grant(&mut self, stream: StreamId, credit: u64) {
        let Some(sink) = self.sinks.get_mut(&stream) else { return };
        if credit == 0 {
            return;
        }
        if sink.untold == 0 && sink.known {
            self.grants.push_back(stream);
        }
        sink.untold = sink.untold.saturating_add(credit);
    }

    fn stop(&mut self, stream: StreamId, fault: Fault) {
        if self.remove_sink(stream) {
            self.push_stop(stream, fault);
        }
    }

    fn push_stop(&mut self, stream: StreamId, fault: Fault) {
        if self.stops.len() < STOPS && self.stops.iter().all(|(told, _)| *told != stream) {
            self.stops.push_back((stream, fault));
        }
    }

    fn data(&mut self, stream: StreamId, mark: Bytes, content: Bytes) -> Result<(), Refusal> {
        if mark.len() > limits::STREAM_MARK || content.len() > limits::STREAM_CHUNK {
            return Err(Refusal::TooLarge);
        }
        let cost = chunk_cost(content.len());
        let source = self.source(stream)?;
        if cost > source.room() {
            source.starved = true;
            return Err(Refusal::Full);
        }
        source.credit -= cost as u64;
        source.queued += cost;
        source.chunks.push_back(Chunk { mark, content });
        source.starved |= source.room() == 0;
        self.line_up(stream);
        Ok(())
    }

    fn end(&mut self, stream: StreamId, end: End) -> Result<(), Refusal> {
        let source = match &end {
            End::Finish(_) => self.source(stream)?,
            // One that was completed may still be given up.
            End::Abort(_) => self.sources.get_mut(&stream).ok_or(Refusal::NoStream)?,
        };
        if matches!(end, End::Abort(_)) {
            source.chunks.clear();
        }
        source.end = Some(end);
        self.line_up(stream);
        Ok(())
    }

    fn line_up(&mut self, stream: StreamId) {
        let Some(source) = self.sources.get_mut(&stream) else { return };
        if !std::mem::replace(&mut source.waiting, true) {
            self.turns.push_back(stream);
        }
    }

    /// A frame that steers the peer's streams: these go before everything that can wait.
    fn take_control(&mut self) -> Option<Frame> {
        let (stream, credit) = if let Some((stream, fault)) = self.stops.pop_front() {
            (stream, header::Credit { credit: 0, stop: Some(fault) })
        } else {
            let stream = self.grants.pop_front()?;
            let sink = self.sinks.get_mut(&stream).expect("what has untold credit is there");
            let credit = std::mem::take(&mut sink.untold);
            sink.credit = sink.credit.saturating_add(credit);
            (stream, header::Credit { credit, stop: None })
        };
        Some(Frame { id: stream, header: Bytes::from(encode(&credit)), ..Frame::new(Kind::STREAM_CREDIT) })
    }

    /// The next chunk or end of the source whose turn it is, and whether the source has room again.
    fn take_chunk(&mut self) -> Option<(Frame, bool)> {
        let stream = self.turns.pop_front()?;
        let source = self.sources.get_mut(&stream).expect("what has a turn is there");
        if let Some(Chunk { mark, content }) = source.chunks.pop_front() {
            let before = source.room();
            source.queued -= chunk_cost(content.len());
            if source.chunks.is_empty() && source.end.is_none() {
                source.waiting = false;
            } else {
                self.turns.push_back(stream);
            }
            let relieved = source.relieve(before);
            return Some((Frame { id: stream, header: mark, content, ..Frame::new(Kind::STREAM_DATA) }, relieved));
        }
        let end = self.sources.remove(&stream).and_then(|source| source.end).expect("a turn without a chunk is that of the end");
        let frame = match end {
            End::Finish(content) => Frame { content, ..Frame::new(Kind::STREAM_END) },
            End::Abort(fault) => Frame { header: fault_header(fault), ..Frame::new(Kind::STREAM_END) },
        };
        Some((Frame { id: stream, ..frame }, false))
    }

    fn remove_source(&mut self, stream: StreamId) -> Option<Source> {
        let source = self.sources.remove(&stream)?;
        if source.waiting {
            self.turns.retain(|waiting| *waiting != stream);
        }
        Some(source)
    }

    fn remove_sink(&mut self, stream: StreamId) -> bool {
        let Some(sink) = self.sinks.remove(&stream) else { return false };
        if sink.untold > 0 {
            self.grants.retain(|waiting| *waiting != stream);
        }
        true
    }

    fn has_control(&self) -> bool {
        !self.stops.is_empty() || !self.grants.is_empty()
    }

    fn is_empty(&self) -> bool {
        self.sources.is_empty() && self.sinks.is_empty() && self.stops.is_empty()
    }
}

fn check_place<T>(open: &BTreeMap<StreamId, T>, stream: StreamId) -> Result<(), Refusal> {
    if open.contains_key(&stream) {
        return Err(Refusal::StreamInUse);
    }
    if open.len() >= limits::STREAMS {
        return Err(Refusal::TooManyStreams);
    }
    Ok(())
}

/// Gives the memory of past streams back.
pub(super) fn shrink(streams: &mut Option<Box<Streams>>) {
    if streams.as_ref().is_some_and(|streams| streams.is_empty()) {
        *streams = None;
    }
}

impl Link {
    /// How many bytes of [`Command::Data`] a stream would take at this moment, in chunks of at most [`limits::STREAM_CHUNK`] that cost
    /// what [`chunk_cost`] says. 0 for a stream that is over.
    #[must_use]
    pub fn stream_room(&self, stream: StreamId) -> usize {
        self.streams.as_ref().and_then(|streams| streams.sources.get(&stream)).map_or(0, Source::room)
    }

    /// Open streams: those we send, and those we receive.
    #[must_use]
    pub fn streams(&self) -> (usize, usize) {
        self.streams.as_ref().map_or((0, 0), |streams| (streams.sources.len(), streams.sinks.len()))
    }

    /// Bytes of chunks that wait for the connection, over all streams.
    #[must_use]
    pub fn stream_bytes(&self) -> usize {
        let bytes = |chunk: &Chunk| chunk.mark.len() + chunk.content.len();
        let sources = self.streams.iter().flat_map(|streams| streams.sources.values());
        sources.flat_map(|source| source.chunks.iter().map(bytes)).sum()
    }

    /// Carries out a command about a stream. The link is not closed.
    pub(super) fn on_stream_command(&mut self, command: Command) -> Result<(), LinkError> {
        if let Command::Sink { .. } | Command::Source { .. } = command {
            if !self.is_up() {
                return Err(Refusal::Disconnected.into());
            }
            self.streams.get_or_insert_default();
        }
        let harmless = matches!(command, Command::Grant { .. } | Command::Stop { .. } | Command::Abort { .. });
        let Some(streams) = &mut self.streams else { return if harmless { Ok(()) } else { Err(Refusal::NoStream.into()) } };
        let result = match command {
            Command::Sink { stream, credit } => streams.open_sink(stream, credit),
            Command::Source { stream, credit } => streams.open_source(stream, credit),
            Command::Data { stream, mark, content } => streams.data(stream, mark, content),
            Command::Finish { content, .. } if content.len() > limits::STREAM_FINISH => Err(Refusal::TooLarge),
            Command::Finish { stream, content } => streams.end(stream, End::Finish(content)),
            Command::Abort { stream, fault } => streams.end(stream, End::Abort(fault)).or(Ok(())),
            Command::Grant { stream, credit } => {
                streams.grant(stream, credit);
                Ok(())
            }
            Command::Stop { stream, fault } => {
                streams.stop(stream, fault);
                Ok(())
            }
            _ => Ok(()),
        };
        Ok(result?)
    }

    /// A frame that steers the peer's streams, if there is one to send.
    pub(super) fn next_credit(&mut self) -> Option<Frame> {
        self.streams.as_mut()?.take_control()
    }

    /// A chunk or end of one of our streams, if there is one to send.
    pub(super) fn next_chunk(&mut self) -> Option<Frame> {
        let (frame, relieved) = self.streams.as_mut()?.take_chunk()?;
        if relieved {
            self.event(Event::Credit { stream: frame.id });
        }
        Some(frame)
    }

    /// Whether there is a chunk or end to send, held back or not.
    pub(super) fn has_turn(&self) -> bool {
        self.streams.as_ref().is_some_and(|streams| !streams.turns.is_empty())
    }

    /// Whether there is a chunk or end to send that is not held back.
    pub(super) fn has_chunk(&self) -> bool {
        !self.chunks_held && self.has_turn()
    }

    pub(super) fn has_stream_frame(&self) -> bool {
        self.has_chunk() || self.streams.as_ref().is_some_and(|streams| streams.has_control())
    }

    /// A chunk of the peer. One of a stream that is not open crossed our stop, or its sender has heard of a sink that died with a
    /// connection before this one; it is told to stop, so that it does not wait for credit for ever.
    pub(super) fn on_stream_data(&mut self, frame: Frame) -> Result<(), Violation> {
        bounded("mark of a chunk", frame.header.len(), limits::STREAM_MARK)?;
        bounded("chunk", frame.content.len(), limits::STREAM_CHUNK)?;
        let stream = frame.id;
        let streams = self.streams.get_or_insert_default();
        let Some(sink) = streams.sinks.get_mut(&stream) else {
            streams.push_stop(stream, fault(Code::CANCELLED, "the stream is not open"));
            return Ok(());
        };
        let cost = chunk_cost(frame.content.len()) as u64;
        sink.credit = sink.credit.checked_sub(cost).ok_or(Violation::CreditExceeded(stream))?;
        if !std::mem::replace(&mut sink.known, true) && sink.untold > 0 {
            streams.grants.push_back(stream);
        }
        self.event(Event::Data { stream, mark: frame.header, content: frame.content, cost });
        Ok(())
    }

    /// The end of a stream of the peer.
    pub(super) fn on_stream_end(&mut self, frame: Frame) -> Result<(), Violation> {
        bounded("end of a stream", frame.content.len(), limits::STREAM_FINISH)?;
        let result = if frame.header.is_empty() {
            Ok(frame.content)
        } else {
            let mut fault: Fault = read_header(&frame)?;
            shorten(&mut fault.message);
            Err(fault)
        };
        if self.streams.as_mut().is_some_and(|streams| streams.remove_sink(frame.id)) {
            self.event(Event::StreamEnded { stream: frame.id, result });
        }
        Ok(())
    }

    /// Credit for one of our streams, or its stop. For a stream that is over it comes too late.
    pub(super) fn on_stream_credit(&mut self, frame: &Frame) -> Result<(), Violation> {
        let header::Credit { credit, stop } = read_header(frame)?;
        let stream = frame.id;
        let Some(streams) = &mut self.streams else { return Ok(()) };
        if let Some(mut fault) = stop {
            shorten(&mut fault.message);
            if let Some(source) = streams.remove_source(stream)
                && !matches!(source.end, Some(End::Abort(_)))
            {
                self.event(Event::StreamStopped { stream, fault });
            }
        } else if let Some(source) = streams.sources.get_mut(&stream) {
            let before = source.room();
            source.credit = source.credit.saturating_add(credit);
            if source.relieve(before) {
                self.event(Event::Credit { stream });
            }
        }
        Ok(())
    }

    /// The connection or the session is gone, and every stream with it.
    pub(super) fn end_streams(&mut self, reason: &Fault) {
        let Some(streams) = self.streams.take() else { return };
        for stream in streams.sinks.into_keys() {
            self.event(Event::StreamEnded { stream, result: Err(reason.clone()) });
        }
        for (stream, source) in streams.sources {
            if !matches!(source.end, Some(End::Abort(_))) {
                self.event(Event::StreamStopped { stream, fault: reason.clone() });
            }
        }
    }
}
