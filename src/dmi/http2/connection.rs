//! One connection: its streams, and what each side may still send.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf, BytesMut};

use super::frame::{self, ACK, END_HEADERS, END_STREAM, Fault, Frame, Kind, MAX_FRAME, PREFACE, code};
use super::headers::{self, Head, MAX_BLOCK, Reader, Unread};
use super::stream::{Body, Budget, Phase, Request, Status, Stream};

/// Streams at a time.
pub const MAX_STREAMS: usize = 64;
/// What each side may send before the other says more, until told otherwise.
const WINDOW: i64 = 65_535;
const MAX_WINDOW: i64 = i32::MAX as i64;
/// Bytes of answers that wait until the peer reads them.
const MAX_ANSWERS: usize = 4 << 20;
/// Bytes made ready for the socket at a time.
const READY: usize = 64 << 10;

/// A header block that is not whole.
struct Block {
    stream: u32,
    ends_stream: bool,
    bytes: BytesMut,
}

/// The server's side of a connection.
pub struct Connection {
    input: BytesMut,
    output: BytesMut,
    reader: Reader,
    begun: bool,
    over: Option<Fault>,
    block: Option<Block>,
    streams: BTreeMap<u32, Stream>,
    last: u32,
    /// What the peer takes of all streams, and of a new one.
    window: i64,
    first_window: i64,
    budget: Budget,
    answers: Budget,
    requests: VecDeque<Request>,
}

impl Connection {
    /// A new one; the peer speaks first.
    pub fn new(budget: Budget) -> Self {
        let mut output = BytesMut::new();
        let settings = [(0x3u16, u32::try_from(MAX_STREAMS).unwrap_or_default()), (0x6, u32::try_from(headers::MAX_LIST).unwrap_or_default())];
        let payload: Vec<u8> = settings.iter().flat_map(|(name, value)| name.to_be_bytes().into_iter().chain(value.to_be_bytes())).collect();
        frame::put(&mut output, Kind::Settings, 0, 0, &payload);
        Self {
            input: BytesMut::new(),
            output,
            reader: Reader::new(),
            begun: false,
            over: None,
            block: None,
            streams: BTreeMap::new(),
            last: 0,
            window: WINDOW,
            first_window: WINDOW,
            budget,
            answers: Budget::new(MAX_ANSWERS),
            requests: VecDeque::new(),
        }
    }

    /// Bytes came.
    pub fn take(&mut self, bytes: &[u8]) {
        if self.over.is_none() {
            self.input.extend_from_slice(bytes);
            if let Err(fault) = self.read() {
                self.end(fault);
            }
        }
    }

    /// The next request that was not given up meanwhile.
    pub fn poll(&mut self) -> Option<Request> {
        let streams = &self.streams;
        std::iter::from_fn(|| self.requests.pop_front()).find(|request| streams.contains_key(&request.stream))
    }

    /// The answer to a request; ignored when nobody waits for it.
    pub fn answer(&mut self, stream: u32, answer: Result<Vec<u8>, Status>) {
        let Some(waiting) = self.streams.get_mut(&stream).filter(|stream| matches!(stream.phase, Phase::Asked { .. })) else { return };
        let mut claim = self.answers.claim();
        // One answer may be larger than all that may wait.
        let most = if self.answers.left() == MAX_ANSWERS { MAX_ANSWERS } else { usize::MAX };
        let answer = answer.and_then(|message| match claim.take(message.len().min(most)) {
            true => Ok(message),
            false => Err(Status::exhausted("too many large answers wait to be read".to_owned())),
        });
        match answer {
            Ok(message) => {
                let mut head = BytesMut::new();
                headers::answer(&mut head);
                frame::put(&mut self.output, Kind::Headers, END_HEADERS, stream, &head);
                let length = u32::try_from(message.len()).unwrap_or_default();
                let framed: Vec<u8> = [0].into_iter().chain(length.to_be_bytes()).chain(message).collect();
                waiting.phase = Phase::Answering { rest: framed.into(), _claim: claim };
            }
            Err(status) => {
                self.streams.remove(&stream);
                self.refuse(stream, &status);
            }
        }
    }

    /// Bytes for the socket, made ready as far as the peer takes them; what was
    /// sent is to be cut off.
    pub fn output(&mut self) -> &mut BytesMut {
        let waiting: Vec<u32> = self.streams.iter().filter(|(_, stream)| matches!(stream.phase, Phase::Answering { .. })).map(|(id, _)| *id).collect();
        for id in waiting {
            self.send(id);
        }
        &mut self.output
    }

    /// The connection ends once the output is sent.
    pub fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// Why it ends early.
    pub fn fault(&self) -> Option<Fault> {
        self.over.filter(|fault| fault.code != code::NO_ERROR)
    }

    /// No request is under way.
    pub fn is_idle(&self) -> bool {
        self.streams.is_empty()
    }

    /// Ends it in good order.
    pub fn close(&mut self) {
        self.end(Fault { code: code::NO_ERROR, why: "idle" });
    }

    fn end(&mut self, fault: Fault) {
        if self.over.is_none() {
            let payload: Vec<u8> = self.last.to_be_bytes().into_iter().chain(fault.code.to_be_bytes()).collect();
            frame::put(&mut self.output, Kind::GoAway, 0, 0, &payload);
            self.streams.clear();
            self.input.clear();
            self.over = Some(fault);
        }
    }

    fn read(&mut self) -> Result<(), Fault> {
        if !self.begun {
            let Some(first) = self.input.get(..PREFACE.len()) else {
                let is_right = PREFACE.starts_with(&self.input);
                return if is_right { Ok(()) } else { Err(Fault::protocol("no HTTP/2 client")) };
            };
            if first != PREFACE {
                return Err(Fault::protocol("no HTTP/2 client"));
            }
            self.input.advance(PREFACE.len());
            self.begun = true;
        }
        while let Some(frame) = frame::cut(&mut self.input)? {
            self.handle(&frame)?;
        }
        Ok(())
    }

    fn handle(&mut self, frame: &Frame) -> Result<(), Fault> {
        if let Some(block) = &self.block
            && (frame.kind != Kind::Continuation || frame.stream != block.stream)
        {
            return Err(Fault::protocol("a header block is not whole"));
        }
        match frame.kind {
            Kind::Data => self.data(frame),
            Kind::Headers => self.headers(frame),
            Kind::Continuation => self.continuation(frame),
            Kind::Reset => self.reset(frame),
            Kind::Settings => self.settings(frame),
            Kind::Ping => self.ping(frame),
            Kind::WindowUpdate => self.window_update(frame),
            Kind::PushPromise => Err(Fault::protocol("a client pushes nothing")),
            Kind::GoAway if frame.stream != 0 => Err(Fault::protocol("GOAWAY of a stream")),
            // Streams that are open go on.
            Kind::GoAway | Kind::Priority | Kind::Other(_) => Ok(()),
        }
    }

    fn data(&mut self, frame: &Frame) -> Result<(), Fault> {
        self.must_be_open(frame, "DATA")?;
        let content = frame.content()?;
        self.allow(0, frame.payload.len());
        let Some(stream) = self.streams.get_mut(&frame.stream) else {
            // Answered or given up already; the rest is of no interest.
            return Ok(());
        };
        let Phase::Asking(_, body) = &mut stream.phase else {
            return Err(Fault { code: code::STREAM_CLOSED, why: "DATA after the end" });
        };
        if let Err(status) = body.extend(&content) {
            self.streams.remove(&frame.stream);
            self.refuse(frame.stream, &status);
            if !frame.has(END_STREAM) {
                self.put_reset(frame.stream, code::NO_ERROR);
            }
            return Ok(());
        }
        if frame.has(END_STREAM) {
            self.asked(frame.stream);
        } else {
            self.allow(frame.stream, frame.payload.len());
        }
        Ok(())
    }

    fn headers(&mut self, frame: &Frame) -> Result<(), Fault> {
        if frame.stream.is_multiple_of(2) {
            return Err(Fault::protocol("HEADERS of a stream that is no client's"));
        }
        self.block = Some(Block { stream: frame.stream, ends_stream: frame.has(END_STREAM), bytes: BytesMut::from(&frame.content()?[..]) });
        self.block_ends(frame.has(END_HEADERS))
    }

    fn continuation(&mut self, frame: &Frame) -> Result<(), Fault> {
        let block = self.block.as_mut().ok_or(Fault::protocol("CONTINUATION of nothing"))?;
        block.bytes.extend_from_slice(&frame.payload);
        if frame.payload.is_empty() && !frame.has(END_HEADERS) {
            return Err(Fault { code: code::ENHANCE_YOUR_CALM, why: "CONTINUATION without content" });
        }
        self.block_ends(frame.has(END_HEADERS))
    }

    fn block_ends(&mut self, ends: bool) -> Result<(), Fault> {
        if self.block.as_ref().is_some_and(|block| block.bytes.len() > MAX_BLOCK) {
            return Err(Fault { code: code::ENHANCE_YOUR_CALM, why: "headers of more than 16 KiB" });
        }
        let Some(block) = self.block.take_if(|_| ends) else { return Ok(()) };
        // Read even when of no use: the table is the same for all.
        let head = self.reader.read(&block.bytes).map_err(|why| match why {
            Unread::Garbled => Fault { code: code::COMPRESSION, why: "headers that cannot be read" },
            Unread::TooLarge => Fault { code: code::ENHANCE_YOUR_CALM, why: "a list of headers of more than 64 KiB" },
        })?;
        if block.stream <= self.last { self.trailers(&block) } else { self.opens(&block, head) }
    }

    fn opens(&mut self, block: &Block, head: Head) -> Result<(), Fault> {
        self.last = block.stream;
        if self.streams.len() >= MAX_STREAMS {
            self.put_reset(block.stream, code::REFUSED_STREAM);
            return Ok(());
        }
        if head.is_too_large {
            self.refuse(block.stream, &Status::exhausted(format!("the list of headers is larger than {} bytes", headers::MAX_LIST)));
            self.put_reset(block.stream, code::NO_ERROR);
            return Ok(());
        }
        if !head.is_grpc {
            let mut answer = BytesMut::new();
            headers::unsupported(&mut answer);
            frame::put(&mut self.output, Kind::Headers, END_HEADERS | END_STREAM, block.stream, &answer);
            self.put_reset(block.stream, code::NO_ERROR);
            return Ok(());
        }
        let body = Body::new(self.budget.clone());
        self.streams.insert(block.stream, Stream { window: self.first_window, phase: Phase::Asking(head, body) });
        if block.ends_stream {
            self.asked(block.stream);
        }
        Ok(())
    }

    fn trailers(&mut self, block: &Block) -> Result<(), Fault> {
        match self.streams.get(&block.stream).map(|stream| &stream.phase) {
            Some(Phase::Asking(..)) if block.ends_stream => self.asked(block.stream),
            Some(Phase::Asking(..)) => return Err(Fault::protocol("headers in the middle of a stream")),
            Some(Phase::Asked { .. } | Phase::Answering { .. }) | None => return Err(Fault { code: code::STREAM_CLOSED, why: "HEADERS after the end" }),
        }
        Ok(())
    }

    /// A request is whole.
    fn asked(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let Phase::Asking(head, body) = std::mem::replace(&mut stream.phase, Phase::Asked { _claim: None }) else { return };
        match body.message() {
            Ok((message, claim)) => {
                stream.phase = Phase::Asked { _claim: Some(claim) };
                self.requests.push_back(Request { stream: id, path: head.path, message });
            }
            Err(status) => self.answer(id, Err(status)),
        }
    }

    fn reset(&mut self, frame: &Frame) -> Result<(), Fault> {
        self.must_be_open(frame, "RST_STREAM")?;
        frame.number()?;
        self.streams.remove(&frame.stream);
        Ok(())
    }

    fn settings(&mut self, frame: &Frame) -> Result<(), Fault> {
        if frame.stream != 0 {
            return Err(Fault::protocol("SETTINGS of a stream"));
        }
        if !frame.payload.len().is_multiple_of(6) || (frame.has(ACK) && !frame.payload.is_empty()) {
            return Err(Fault { code: code::FRAME_SIZE, why: "SETTINGS that are not whole" });
        }
        if frame.has(ACK) {
            return Ok(());
        }
        let mut settings = frame.payload.clone();
        while settings.len() >= 6 {
            // Of the others none matters: our tables are empty, our frames short.
            if let (0x4, value) = (settings.get_u16(), settings.get_u32()) {
                self.change_window(i64::from(value))?;
            }
        }
        frame::put(&mut self.output, Kind::Settings, ACK, 0, &[]);
        Ok(())
    }

    fn change_window(&mut self, first: i64) -> Result<(), Fault> {
        let overflow = Fault { code: code::FLOW_CONTROL, why: "a window of more than 2147483647" };
        if first > MAX_WINDOW {
            return Err(overflow);
        }
        let change = first - self.first_window;
        self.first_window = first;
        for stream in self.streams.values_mut() {
            stream.window += change;
            if stream.window > MAX_WINDOW {
                return Err(overflow);
            }
        }
        Ok(())
    }

    fn ping(&mut self, frame: &Frame) -> Result<(), Fault> {
        if frame.stream != 0 {
            return Err(Fault::protocol("PING of a stream"));
        }
        if frame.payload.len() != 8 {
            return Err(Fault { code: code::FRAME_SIZE, why: "PING has eight bytes" });
        }
        if !frame.has(ACK) {
            frame::put(&mut self.output, Kind::Ping, ACK, 0, &frame.payload);
        }
        Ok(())
    }

    fn window_update(&mut self, frame: &Frame) -> Result<(), Fault> {
        let more = i64::from(frame.number()? & 0x7fff_ffff);
        if more == 0 {
            return Err(Fault::protocol("WINDOW_UPDATE of nothing"));
        }
        let window = match (frame.stream, self.streams.get_mut(&frame.stream)) {
            (0, _) => &mut self.window,
            (_, Some(stream)) => &mut stream.window,
            (_, None) => return self.must_be_open(frame, "WINDOW_UPDATE"),
        };
        *window += more;
        if *window > MAX_WINDOW {
            return Err(Fault { code: code::FLOW_CONTROL, why: "a window of more than 2147483647" });
        }
        Ok(())
    }

    /// A frame of a stream that was opened once.
    fn must_be_open(&self, frame: &Frame, what: &'static str) -> Result<(), Fault> {
        let was_opened = frame.stream != 0 && frame.stream % 2 == 1 && frame.stream <= self.last;
        if was_opened { Ok(()) } else { Err(Fault::protocol(what)) }
    }

    /// The peer may send as much again.
    fn allow(&mut self, stream: u32, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or_default();
        if bytes > 0 {
            frame::put(&mut self.output, Kind::WindowUpdate, 0, stream, &bytes.to_be_bytes());
        }
    }

    fn put_reset(&mut self, stream: u32, code: u32) {
        frame::put(&mut self.output, Kind::Reset, 0, stream, &code.to_be_bytes());
    }

    fn refuse(&mut self, stream: u32, status: &Status) {
        let mut answer = BytesMut::new();
        headers::answer(&mut answer);
        headers::verdict(&mut answer, status.code, &status.message);
        frame::put(&mut self.output, Kind::Headers, END_HEADERS | END_STREAM, stream, &answer);
    }

    /// As much of an answer as the peer takes now.
    fn send(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let Phase::Answering { rest, .. } = &mut stream.phase else { return };
        while !rest.is_empty() && self.output.len() < READY {
            let window = usize::try_from(stream.window.min(self.window)).unwrap_or(0);
            let part = rest.split_to(rest.len().min(window).min(MAX_FRAME));
            if part.is_empty() {
                return;
            }
            let sent = i64::try_from(part.len()).unwrap_or_default();
            stream.window -= sent;
            self.window -= sent;
            frame::put(&mut self.output, Kind::Data, 0, id, &part);
        }
        if rest.is_empty() {
            self.streams.remove(&id);
            let mut trailers = BytesMut::new();
            headers::verdict(&mut trailers, 0, "");
            frame::put(&mut self.output, Kind::Headers, END_HEADERS | END_STREAM, id, &trailers);
        }
    }
}
