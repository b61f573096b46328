//! Bytes against the connection: rules kept, rules broken, and nonsense.

use bytes::{Buf, BytesMut};

use super::connection::{Connection, MAX_STREAMS};
use super::frame::{self, ACK, END_HEADERS, END_STREAM, Frame, Kind, PREFACE, code};
use super::{Budget, MAX_MESSAGE, Request, Status, headers};

/// A client of the tests.
struct Client {
    connection: Connection,
    got: BytesMut,
}

/// `:method POST`, `:path /p/C`, `content-type application/grpc`.
fn request() -> BytesMut {
    let mut block = BytesMut::from(&b"\x83\x04\x04/p/C"[..]);
    block.extend_from_slice(b"\x0f\x10\x10application/grpc");
    block
}

fn framed(message: &[u8]) -> Vec<u8> {
    [0].into_iter().chain(u32::try_from(message.len()).unwrap().to_be_bytes()).chain(message.iter().copied()).collect()
}

impl Client {
    fn new() -> Self {
        let mut client = Self { connection: Connection::new(Budget::new(8 << 20)), got: BytesMut::new() };
        client.connection.take(PREFACE);
        client.send(Kind::Settings, 0, 0, &[]);
        client
    }

    fn send(&mut self, kind: Kind, flags: u8, stream: u32, payload: &[u8]) {
        let mut bytes = BytesMut::new();
        frame::put(&mut bytes, kind, flags, stream, payload);
        self.connection.take(&bytes);
    }

    fn call(&mut self, stream: u32, message: &[u8]) {
        self.send(Kind::Headers, END_HEADERS, stream, &request());
        let framed = framed(message);
        let mut parts = framed.chunks(frame::MAX_FRAME).peekable();
        while let Some(part) = parts.next() {
            self.send(Kind::Data, if parts.peek().is_none() { END_STREAM } else { 0 }, stream, part);
        }
    }

    /// Frames that came since.
    fn frames(&mut self) -> Vec<Frame> {
        self.got.unsplit(self.connection.output().split());
        std::iter::from_fn(|| frame::cut(&mut self.got).unwrap()).collect()
    }

    /// The code of GOAWAY, if one came.
    fn goaway(&mut self) -> Option<u32> {
        let frames = self.frames();
        let goaway = frames.iter().find(|frame| frame.kind == Kind::GoAway)?;
        Some((&goaway.payload[4..]).get_u32())
    }
}

fn of(frames: &[Frame], stream: u32) -> Vec<&Frame> {
    frames.iter().filter(|frame| frame.stream == stream && frame.kind != Kind::WindowUpdate).collect()
}

#[test]
fn a_call_is_heard_and_answered() {
    let mut client = Client::new();
    client.call(1, b"hello");
    assert_eq!(client.connection.poll(), Some(Request { stream: 1, path: "/p/C".into(), message: (&b"hello"[..]).into() }));
    client.connection.answer(1, Ok(b"well".to_vec()));
    let frames = client.frames();
    let [head, data, trailers] = of(&frames, 1)[..] else { panic!("{frames:?}") };
    assert_eq!((head.kind, data.kind, trailers.kind), (Kind::Headers, Kind::Data, Kind::Headers));
    assert_eq!(&data.payload[..], b"\0\0\0\0\x04well");
    assert!(trailers.has(END_STREAM) && trailers.payload.ends_with(b"grpc-status\x010"));
    assert!(client.connection.is_idle() && !client.connection.is_over());
}

#[test]
fn the_settings_are_answered_and_pings_come_back() {
    let mut client = Client::new();
    client.send(Kind::Ping, 0, 0, b"12345678");
    client.send(Kind::Ping, ACK, 0, b"87654321");
    let frames = client.frames();
    assert_eq!(frames.iter().filter(|frame| frame.kind == Kind::Settings).map(|frame| frame.flags).collect::<Vec<_>>(), [0, ACK]);
    let pings: Vec<_> = frames.iter().filter(|frame| frame.kind == Kind::Ping).collect();
    assert!(pings.len() == 1 && pings[0].has(ACK) && &pings[0].payload[..] == b"12345678");
}

#[test]
fn an_answer_larger_than_the_windows_waits_for_them() {
    let mut client = Client::new();
    client.call(1, b"");
    client.connection.poll();
    client.connection.answer(1, Ok(vec![7; 200_000]));
    let mut got = 0;
    for round in 0.. {
        let frames = client.frames();
        let data: usize = frames.iter().filter(|frame| frame.kind == Kind::Data).map(|frame| frame.payload.len()).sum();
        assert!(frames.iter().all(|frame| frame.payload.len() <= frame::MAX_FRAME) && data <= 65_535, "round {round}");
        got += data;
        if of(&frames, 1).last().is_some_and(|frame| frame.has(END_STREAM) && frame.kind == Kind::Headers) {
            break;
        }
        let data = u32::try_from(data).unwrap().to_be_bytes();
        client.send(Kind::WindowUpdate, 0, 0, &data);
        assert!(client.frames().iter().all(|frame| frame.kind != Kind::Data), "the stream's own window is used up");
        client.send(Kind::WindowUpdate, 0, 1, &data);
    }
    assert_eq!(got, 200_005);
}

#[test]
fn a_larger_first_window_counts_for_streams_that_are_open() {
    let mut client = Client::new();
    client.send(Kind::Settings, 0, 0, &[0, 4, 0, 0, 0, 10]);
    client.call(1, b"");
    client.connection.poll();
    client.connection.answer(1, Ok(vec![7; 100]));
    let data = |frames: &[Frame]| frames.iter().filter(|frame| frame.kind == Kind::Data).map(|frame| frame.payload.len()).sum::<usize>();
    assert_eq!(data(&client.frames()), 10);
    client.send(Kind::Settings, 0, 0, &[0, 4, 0, 0, 0, 5]);
    assert_eq!(data(&client.frames()), 0, "the window is below nothing now");
    client.send(Kind::Settings, 0, 0, &[0, 4, 0, 1, 0, 0]);
    assert_eq!(data(&client.frames()), 95);
}

#[test]
fn every_shape_of_headers_is_read() {
    let mut client = Client::new();
    let block = request();
    // Padded, with a priority, in three parts.
    let first: Vec<u8> = [3].into_iter().chain([0; 5]).chain(block[..4].iter().copied()).chain([0; 3]).collect();
    client.send(Kind::Headers, 0x8 | 0x20, 1, &first);
    client.send(Kind::Continuation, 0, 1, &block[4..9]);
    client.send(Kind::Continuation, END_HEADERS, 1, &block[9..]);
    let padded: Vec<u8> = [2].into_iter().chain(framed(b"x")).chain([0; 2]).collect();
    client.send(Kind::Data, 0x8, 1, &padded);
    client.send(Kind::Other(0xfa), 0xff, 1, b"?");
    client.send(Kind::Priority, 0, 1, &[0; 5]);
    // Trailers end it.
    client.send(Kind::Headers, END_HEADERS | END_STREAM, 1, &request());
    assert_eq!(client.connection.poll().unwrap().message, &b"x"[..]);
    assert_eq!(client.goaway(), None);
}

#[test]
fn bytes_may_come_one_by_one() {
    let mut bytes = BytesMut::from(PREFACE);
    frame::put(&mut bytes, Kind::Headers, END_HEADERS, 1, &request());
    frame::put(&mut bytes, Kind::Data, END_STREAM, 1, &framed(b"slow"));
    let mut connection = Connection::new(Budget::new(100));
    bytes.iter().for_each(|byte| connection.take(&[*byte]));
    assert_eq!(connection.poll().unwrap().message, &b"slow"[..]);
}

#[test]
fn what_is_no_call_of_ours_is_refused_and_the_connection_stays() {
    let mut client = Client::new();
    client.send(Kind::Headers, END_HEADERS | END_STREAM, 1, b"\x82\x84\x86");
    assert!(of(&client.frames(), 1)[0].payload.ends_with(b":status\x03415"));
    for (stream, body, wanted) in
        [(3, &b"\x01\0\0\0\0"[..], "12"), (5, b"\0\0\0", "13"), (7, b"\0\xff\xff\xff\xff", "8"), (9, b"\0\0\0\0\0x", "13"), (11, b"", "13")]
    {
        client.send(Kind::Headers, END_HEADERS, stream, &request());
        client.send(Kind::Data, END_STREAM, stream, body);
        let frames = client.frames();
        let frame = of(&frames, stream)[0].clone();
        let status = format!("grpc-status{}{wanted}", char::from(u8::try_from(wanted.len()).unwrap()));
        assert!(frame.has(END_STREAM) && String::from_utf8_lossy(&frame.payload).contains(&status), "{stream}: {frame:?}");
    }
    client.call(13, b"good");
    client.connection.answer(13, Err(Status { code: 5, message: "no".into() }));
    assert!(of(&client.frames(), 13)[0].payload.ends_with(b"grpc-message\x02no"));
    assert_eq!(client.goaway(), None);
}

#[test]
fn what_one_may_hold_is_bounded() {
    let mut client = Client::new();
    client.call(1, &vec![1; MAX_MESSAGE]);
    assert_eq!(client.connection.poll().unwrap().message.len(), MAX_MESSAGE);
    client.connection.answer(1, Ok(Vec::new()));
    // Three that never end share 8 MiB.
    let part = vec![1; frame::MAX_FRAME];
    for stream in [3, 5, 7] {
        client.send(Kind::Headers, END_HEADERS, stream, &request());
        client.send(Kind::Data, 0, stream, &framed(&[]).iter().copied().take(1).chain(u32::try_from(MAX_MESSAGE).unwrap().to_be_bytes()).collect::<Vec<_>>());
        (0..MAX_MESSAGE / frame::MAX_FRAME - 1).for_each(|_| client.send(Kind::Data, 0, stream, &part));
    }
    let frames = client.frames();
    assert!(String::from_utf8_lossy(&of(&frames, 7)[0].payload).contains("too many large messages"), "{:?}", of(&frames, 7));
    client.send(Kind::Reset, 0, 3, &code::NO_ERROR.to_be_bytes());
    client.call(9, &vec![1; 1 << 20]);
    assert!(client.connection.poll().is_some(), "what was given up makes room");
}

#[test]
fn too_many_streams_are_refused_each() {
    let mut client = Client::new();
    let last = u32::try_from(2 * MAX_STREAMS + 1).unwrap();
    (1..=last).step_by(2).for_each(|stream| client.call(stream, b""));
    assert_eq!((&of(&client.frames(), last)[0].payload[..]).get_u32(), code::REFUSED_STREAM);
    client.connection.answer(1, Ok(Vec::new()));
    client.frames();
    client.call(last + 2, b"");
    assert_eq!(std::iter::from_fn(|| client.connection.poll()).last().unwrap().stream, last + 2);
}

#[test]
fn broken_rules_end_the_connection_with_their_code() {
    let large = vec![0x10; headers::MAX_BLOCK];
    type Act<'a> = Box<dyn Fn(&mut Client) + 'a>;
    let wrong: Vec<(u32, Act<'_>)> = vec![
        (code::PROTOCOL, Box::new(|client| client.send(Kind::Headers, END_HEADERS, 2, &request()))),
        (code::PROTOCOL, Box::new(|client| client.send(Kind::Data, 0, 1, b"x"))),
        (code::PROTOCOL, Box::new(|client| client.send(Kind::Data, 0, 0, b"x"))),
        (code::PROTOCOL, Box::new(|client| client.send(Kind::Continuation, 0, 1, b"x"))),
        (code::PROTOCOL, Box::new(|client| client.send(Kind::PushPromise, 0, 1, b"xxxx"))),
        (code::PROTOCOL, Box::new(|client| client.send(Kind::WindowUpdate, 0, 0, &[0; 4]))),
        (code::PROTOCOL, Box::new(|client| client.send(Kind::Settings, 0, 1, &[]))),
        (code::FRAME_SIZE, Box::new(|client| client.send(Kind::Settings, 0, 0, &[1]))),
        (code::FRAME_SIZE, Box::new(|client| client.send(Kind::Ping, 0, 0, &[1]))),
        (code::FRAME_SIZE, Box::new(|client| client.connection.take(&[0xff; 9]))),
        (code::FLOW_CONTROL, Box::new(|client| client.send(Kind::WindowUpdate, 0, 0, &[0x7f, 0xff, 0xff, 0xff]))),
        (code::FLOW_CONTROL, Box::new(|client| client.send(Kind::Settings, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff]))),
        (code::COMPRESSION, Box::new(|client| client.send(Kind::Headers, END_HEADERS, 1, &[0x3f]))),
        (
            code::STREAM_CLOSED,
            Box::new(|client| {
                client.call(1, b"");
                client.send(Kind::Data, 0, 1, b"x");
            }),
        ),
        (
            code::PROTOCOL,
            Box::new(|client| {
                client.send(Kind::Headers, 0, 1, &[0x82]);
                client.send(Kind::Ping, 0, 0, b"12345678");
            }),
        ),
        (code::PROTOCOL, Box::new(|client| client.send(Kind::Headers, END_HEADERS | 0x8, 1, &[9, 0]))),
        (
            code::ENHANCE_YOUR_CALM,
            Box::new(|client| {
                client.send(Kind::Headers, 0, 1, &large);
                client.send(Kind::Continuation, 0, 1, &large);
            }),
        ),
    ];
    for (number, (code, act)) in wrong.iter().enumerate() {
        let mut client = Client::new();
        act(&mut client);
        assert_eq!(client.goaway(), Some(*code), "rule {number}");
        assert!(client.connection.is_over() && client.connection.poll().is_none_or(|request| request.stream == 1));
    }
    let mut connection = Connection::new(Budget::new(1));
    connection.take(b"GET / HTTP/1.1\r\n\r\n");
    assert!(connection.is_over());
}

#[test]
fn a_list_of_headers_may_not_swell() {
    let mut client = Client::new();
    // One entry of 3 KiB in the table, named eight times.
    let mut block = BytesMut::from(&b"\x40\x01x\x7f\x81\x16"[..]);
    block.extend_from_slice(&vec![b'y'; 127 + 1 + 22 * 128]);
    block.extend_from_slice(&[0x80 | 62; 8]);
    client.send(Kind::Headers, END_HEADERS, 1, &block);
    let frames = client.frames();
    assert!(String::from_utf8_lossy(&of(&frames, 1)[0].payload).contains("list of headers"), "{frames:?}");
    client.call(3, b"goes on");
    assert!(client.connection.poll().is_some());
}

#[test]
fn a_list_of_headers_that_swells_on_is_not_read_to_its_end() {
    // 4 KiB in the table, named by every byte that follows: 64 MB.
    let mut block = BytesMut::from(&b"\x40\x01x\x7f\xc0\x1e"[..]);
    block.extend_from_slice(&vec![b'y'; 127 + 0x40 + 30 * 128]);
    block.resize(headers::MAX_BLOCK, 0x80 | 62);
    let mut client = Client::new();
    client.send(Kind::Headers, END_HEADERS, 1, &block);
    assert_eq!(client.goaway(), Some(code::ENHANCE_YOUR_CALM));
    // The same, each a name in the table again, with a value of nothing.
    let mut block = BytesMut::from(&b"\x40\x7f\xc0\x1e"[..]);
    block.extend_from_slice(&vec![b'y'; 127 + 0x40 + 30 * 128]);
    block.extend_from_slice(b"\0");
    while block.len() < headers::MAX_BLOCK {
        block.extend_from_slice(&[0x40 | 62, 0]);
    }
    let mut client = Client::new();
    client.send(Kind::Headers, END_HEADERS, 1, &block[..headers::MAX_BLOCK]);
    assert_eq!(client.goaway(), Some(code::ENHANCE_YOUR_CALM));
}

#[test]
fn a_call_that_was_given_up_is_not_made() {
    let mut client = Client::new();
    let mut bytes = BytesMut::new();
    for stream in (1..2001).step_by(2) {
        frame::put(&mut bytes, Kind::Headers, END_HEADERS, stream, &request());
        frame::put(&mut bytes, Kind::Data, END_STREAM, stream, &framed(b"x"));
        frame::put(&mut bytes, Kind::Reset, 0, stream, &code::NO_ERROR.to_be_bytes());
    }
    client.connection.take(&bytes);
    assert!(client.connection.poll().is_none() && client.connection.is_idle());
}

/// Any bytes, and right beginnings with a wrong byte: no panic, no growth.
#[test]
fn nonsense_ends_in_a_verdict() {
    let mut chance = crate::node::chance::Chance::new(5);
    let mut right = BytesMut::from(PREFACE);
    frame::put(&mut right, Kind::Settings, 0, 0, &[0, 4, 0, 1, 0, 0]);
    frame::put(&mut right, Kind::Headers, END_HEADERS, 1, &request());
    frame::put(&mut right, Kind::Data, 0, 1, &framed(b"abc")[..4]);
    frame::put(&mut right, Kind::Data, END_STREAM, 1, &framed(b"abc")[4..]);
    frame::put(&mut right, Kind::WindowUpdate, 0, 0, &[0, 0, 0, 9]);
    for round in 0..20_000u32 {
        let mut connection = Connection::new(Budget::new(1 << 20));
        let mut bytes = right.to_vec();
        let mut draw = |limit: usize| usize::try_from(chance.draw() % u64::try_from(limit).unwrap()).unwrap();
        for _ in 0..=draw(4) {
            let at = draw(bytes.len());
            bytes[at] = u8::try_from(draw(256)).unwrap();
        }
        if round % 4 == 0 {
            bytes.truncate(PREFACE.len());
            bytes.extend((0..draw(200)).map(|_| u8::try_from(draw(256)).unwrap()));
        }
        connection.take(&bytes);
        while let Some(request) = connection.poll() {
            connection.answer(request.stream, Ok(vec![0; 100_000]));
        }
        assert!(connection.output().len() < 200 << 10);
    }
}

#[test]
fn requests_hold_their_bytes_until_they_are_answered_and_answers_until_they_are_read() {
    let mut client = Client::new();
    let large = vec![7; MAX_MESSAGE - 8];
    let refused = |frames: &[Frame], stream: u32| of(frames, stream).iter().any(|frame| String::from_utf8_lossy(&frame.payload).contains("too many large"));
    client.call(1, &large);
    client.call(3, &large);
    let asked = [client.connection.poll().unwrap().stream, client.connection.poll().unwrap().stream];
    assert_eq!(asked, [1, 3]);
    client.call(5, &large);
    assert!(refused(&client.frames(), 5), "8 MiB wait for answers");
    client.connection.answer(1, Err(Status { code: 5, message: "no".into() }));
    client.call(7, &large);
    assert_eq!(client.connection.poll().unwrap().stream, 7);

    // The peer reads nothing: one answer however large, else no more than 4 MiB.
    client.connection.answer(3, Ok(vec![1; 5 << 20]));
    client.connection.answer(7, Ok(vec![1; 100]));
    let frames = client.frames();
    assert!(refused(&frames, 7) && !refused(&frames, 3));
    client.send(Kind::Reset, 0, 3, &8u32.to_be_bytes());
    for stream in [9, 11] {
        client.call(stream, b"x");
        client.connection.poll().unwrap();
        client.connection.answer(stream, Ok(vec![1; 3 << 20]));
    }
    let frames = client.frames();
    assert!(refused(&frames, 11) && !refused(&frames, 9));
}
