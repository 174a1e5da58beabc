//! Every bound of the wire, each with its reason. Relations between them are asserted at compile time.

/// Largest frame, header and content together, in bytes. Bounds what one peer can make the other allocate.
pub const FRAME: usize = 1024 * 1024;
/// Largest CBOR header of a frame, in bytes: names, capabilities and error texts are short.
pub const FRAME_HEADER: usize = 16 * 1024;
/// Largest ciphertext of one log entry, in bytes. Room for [`MESSAGE_INLINE`] plus MLS framing and padding.
pub const ENTRY_PAYLOAD: usize = 96 * 1024;
/// Largest MLS commit, group info or welcome that a server takes, in bytes: a 0x004F commit in a cold tree of 150 devices
/// is about 190 KB, the tree of 1,000 devices under 0x0003 with our credentials about 450 KB.
pub const HANDSHAKE_PAYLOAD: usize = 500 * 1024;
/// Devices of one conversation: what [`HANDSHAKE_PAYLOAD`] has room for.
pub const GROUP_DEVICES: usize = 1000;
/// Largest signed leave statement, in bytes.
pub const LEAVE_STATEMENT: usize = 512;

/// Accounts whose leave statements are asked for at once, and the newest statements of a log among which they are looked for.
pub const LEAVE_STATEMENTS: usize = 1000;
/// Largest signal, in bytes: a word or two, encrypted.
pub const SIGNAL: usize = 1024;
/// Largest blob, in bytes: an attachment of 4 GiB and what its encryption adds.
pub const BLOB: u64 = (4 << 30) + (64 << 20);
/// Largest part of a blob in one request or answer, in bytes: what a live message behind it may have to wait for.
pub const BLOB_CHUNK: usize = 256 * 1024;
/// Blobs that one message may name: a file and its thumbnail, several times over.
pub const BLOBS_PER_MESSAGE: usize = 16;
/// Largest sealed index of a backup, in bytes.
pub const BACKUP_INDEX: usize = 256 * 1024;
/// Blobs of one backup; 40 bytes each in the index.
pub const BACKUP_BLOBS: usize = 4096;
/// Longest message text, in bytes; longer text is sent as a file.
pub const MESSAGE_INLINE: usize = 64 * 1024;
/// Longest reaction, in bytes: the longest emoji sequences (families, flags, skin tones) take about 40.
pub const REACTION: usize = 64;
/// Accounts that one message may mention: 34 bytes each, and more would be an announcement to everybody.
pub const MENTIONS: usize = 64;
/// Longest text beside an attachment, in bytes: a long one is a message of its own.
pub const CAPTION: usize = 8 * 1024;
/// Longest base name of a file, in bytes: what the common file systems allow, less the ending of a partial file.
pub const FILE_NAME: usize = 200;
/// Largest thumbnail inside a message, in bytes: a picture of some 200 pixels.
pub const THUMBNAIL: usize = 16 * 1024;
/// Longest status that somebody shows beside their name, in bytes: one line.
pub const PROFILE_STATUS: usize = 256;
/// Largest picture of a profile, in bytes: it travels inside a message, so it and the rest fit an entry.
pub const AVATAR: usize = 48 * 1024;
/// Largest batch of changes between own devices, in bytes: it fits an entry.
pub const SYNC_CONTENT: usize = 64 * 1024;
/// Longest user or group name after normalisation, in bytes of UTF-8.
pub const NAME: usize = 64;
/// Longest name of a device, agent or capability, in bytes: these are shown in one line.
pub const LABEL: usize = 128;
/// Longest text of an error, in bytes.
pub const ERROR_TEXT: usize = 1024;
/// Most capabilities in a hello.
pub const CAPABILITIES: usize = 64;
/// Requests in flight in one direction of a link. Beyond it the peer is misbehaving, not busy.
pub const REQUESTS_IN_FLIGHT: usize = 1024;
/// Unacknowledged sequenced frames that a session keeps for a resume: twice the requests in flight, answers included.
pub const UNACKED_FRAMES: usize = 4096;
/// Bytes of unacknowledged sequenced frames that a session keeps: four full frames in flight.
pub const UNACKED_BYTES: usize = 4 * FRAME;
/// Streams that one side of a link receives at a time; it sends as many. Several transfers beside each other, and room to spare.
pub const STREAMS: usize = 64;
/// Largest content of one chunk of a stream, in bytes: what a live frame may have to wait for.
pub const STREAM_CHUNK: usize = 64 * 1024;
/// Credit that a chunk takes, in bytes, if its content is shorter. What a receiver keeps of a chunk beside its content is about
/// this much, so credit bounds memory even if a peer sends crumbs.
pub const STREAM_CHUNK_COST: usize = 256;
/// Largest mark of a chunk, in bytes: a hash and a few numbers.
pub const STREAM_MARK: usize = 256;
/// Largest content of the end of a stream, in bytes: a summary, not data.
pub const STREAM_FINISH: usize = 4 * 1024;
/// Cost of the chunks of one stream that wait for the connection: enough to fill a write, not more than a wait for it should hold.
pub const STREAM_QUEUE: usize = 4 * STREAM_CHUNK;
/// Longest name of a file at a peer, in bytes: a quarter of what systems allow, so that the path of the root has room.
pub const REMOTE_PATH: usize = 1024;
/// Longest part of such a name between two slashes, in bytes: what the common file systems allow.
pub const REMOTE_PART: usize = 255;
/// Most parts of such a name: deeper trees are mistakes.
pub const REMOTE_DEPTH: usize = 32;
/// Shortest content that is worth compressing, in bytes: below it a result is seldom smaller by more than a packet can tell.
pub const COMPRESS_MIN: usize = 512;
/// Links at the same time of one device: an old one that has not been noticed dead, a new one, and two to spare.
pub const SESSIONS_PER_DEVICE: usize = 4;
/// Devices of one account, revoked ones not counted.
pub const DEVICES_PER_ACCOUNT: usize = 16;
/// Revoked devices that a device list remembers; the oldest fall out.
pub const REVOKED_PER_ACCOUNT: usize = 256;
/// Largest signed device list, in bytes: certificates are about 250 bytes each.
pub const DEVICE_LIST: usize = 32 * 1024;
/// One-time key packages that a server keeps for one device.
pub const KEY_PACKAGES_PER_DEVICE: usize = 100;
/// Largest key package, in bytes (X-Wing: about 3.2 KB with our credential).
pub const KEY_PACKAGE: usize = 8 * 1024;
/// Entries that one read of a log returns at most; the answer also stays under [`READ_BYTES`].
pub const READ_ENTRIES: usize = 1024;
/// Bytes of payload that one read of a log returns at most.
pub const READ_BYTES: usize = FRAME / 2;
/// Conversations that one page of a sync returns.
pub const SYNC_PAGE: usize = 256;
/// Accounts that one presence request may name.
pub const PRESENCE_ACCOUNTS: usize = 1024;
/// Message ids that one delivery report may name, so that it fits an entry.
pub const REPORT_IDS: usize = 512;
/// Longest text of a CBOR string outside payloads, in bytes.
pub const TEXT: usize = 4096;
/// Memory that a decoder of compressed content may take beside its output, in bytes: bzip2's largest block needs 3.7 MB, and for
/// the others a window of two frames is more than what our encoders use.
pub const DECODER_MEMORY: usize = 4 * FRAME;
/// Largest datagram of the local discovery, in bytes: within the smallest packet of IPv6, so that none is fragmented.
pub const DATAGRAM: usize = 1200;
/// Endpoints that one announcement may name: two carriers on four networks.
pub const ENDPOINTS: usize = 8;
/// Rivals that one announcement may name: more stations of one service are an accident.
pub const ANNOUNCED_RIVALS: usize = 8;

const _: () = assert!(2 * LABEL + ENDPOINTS * 28 + ANNOUNCED_RIVALS * 9 + 256 < DATAGRAM, "an announcement fits a datagram");
const _: () = assert!(FRAME_HEADER < FRAME);
const _: () = assert!(ENTRY_PAYLOAD > MESSAGE_INLINE);
const _: () = assert!(2 * HANDSHAKE_PAYLOAD + FRAME_HEADER < FRAME, "a commit and its group info share a frame");
const _: () = assert!(READ_BYTES + ENTRY_PAYLOAD + READ_ENTRIES * 200 < FRAME, "a page of entries fits a frame");
const _: () = assert!(REPORT_IDS * 24 < ENTRY_PAYLOAD);
const _: () = assert!(MESSAGE_INLINE + MENTIONS * 40 + 4096 < ENTRY_PAYLOAD, "a text with its mentions fits an entry");
const _: () = assert!(AVATAR + PROFILE_STATUS + LABEL + 4096 < ENTRY_PAYLOAD && SYNC_CONTENT + 4096 < ENTRY_PAYLOAD);
const _: () = assert!(THUMBNAIL + CAPTION + FILE_NAME + 4096 < ENTRY_PAYLOAD, "an attachment fits an entry");
const _: () = assert!(UNACKED_FRAMES > 2 * REQUESTS_IN_FLIGHT);
const _: () = assert!(STREAM_CHUNK + FRAME_HEADER < FRAME && STREAM_MARK <= FRAME_HEADER);
const _: () = assert!(STREAM_CHUNK_COST <= STREAM_CHUNK && STREAM_CHUNK <= STREAM_QUEUE);
