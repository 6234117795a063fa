/** HTTP/2 frames by hand (RFC 9113), for connections that do what no library would. */
import { connect, type Socket } from "node:net";

export const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");

export const TYPE = {
  DATA: 0,
  HEADERS: 1,
  PRIORITY: 2,
  RST_STREAM: 3,
  SETTINGS: 4,
  PUSH_PROMISE: 5,
  PING: 6,
  GOAWAY: 7,
  WINDOW_UPDATE: 8,
  CONTINUATION: 9,
} as const;
export const FLAG = { ACK: 1, END_STREAM: 1, END_HEADERS: 4, PADDED: 8 } as const;

export function frame(
  type: number,
  options: { readonly flags?: number; readonly stream?: number; readonly payload?: Uint8Array } = {},
): Buffer {
  const { flags = 0, stream = 0, payload = Buffer.alloc(0) } = options;
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** A SETTINGS frame of (id, value) pairs. */
export function settings(...pairs: readonly (readonly [id: number, value: number])[]): Buffer {
  const payload = Buffer.alloc(pairs.length * 6);
  for (const [index, [id, value]] of pairs.entries()) {
    payload.writeUInt16BE(id, index * 6);
    payload.writeUInt32BE(value, index * 6 + 2);
  }
  return frame(TYPE.SETTINGS, { payload });
}

export const INITIAL_WINDOW_SIZE = 4;

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** HPACK without a dynamic table: literal fields that are never indexed. Values up to 126 bytes. */
export function hpack(fields: readonly (readonly [name: string, value: string])[]): Buffer {
  const text = (value: string) => Buffer.concat([Buffer.of(value.length), Buffer.from(value, "latin1")]);
  return Buffer.concat(fields.flatMap(([name, value]) => [Buffer.of(0x10), text(name), text(value)]));
}

/** One literal field that the peer is to put into its dynamic table (index 62). */
export function hpackIndexed(name: string, value: string): Buffer {
  return Buffer.concat([Buffer.of(0x40), hpackText(name), hpackText(value)]);
}

/** The newest field of the dynamic table, once for each byte. */
export function hpackRepeated(count: number): Buffer {
  return Buffer.alloc(count, 0x80 | 62);
}

/** HPACK's string of any length, not Huffman-coded. */
function hpackText(text: string): Buffer {
  const size: number[] = [];
  if (text.length < 127) size.push(text.length);
  else {
    size.push(127);
    let rest = text.length - 127;
    for (; rest >= 128; rest = Math.floor(rest / 128)) size.push((rest % 128) + 128);
    size.push(rest);
  }
  return Buffer.concat([Buffer.from(size), Buffer.from(text, "latin1")]);
}

/** Header block of a gRPC call. */
export function callHeaders(path: string, extra: readonly (readonly [string, string])[] = []): Buffer {
  return hpack([
    [":method", "POST"],
    [":scheme", "http"],
    [":path", path],
    [":authority", "localhost"],
    ["content-type", "application/grpc"],
    ["te", "trailers"],
    ...extra,
  ]);
}

export const QUERY = "/waymark.discovery.v1.DiscoveryService/CatalogQuery";
export const WATCH = "/waymark.discovery.v1.DiscoveryService/CatalogWatch";

/** HEADERS and the one DATA frame of a call with an empty request message. */
export function call(stream: number, path: string = QUERY, message: Uint8Array = Buffer.alloc(0)): Buffer {
  const prefixed = Buffer.concat([Buffer.of(0), u32(message.length), message]);
  return Buffer.concat([
    frame(TYPE.HEADERS, { flags: FLAG.END_HEADERS, stream, payload: callHeaders(path) }),
    frame(TYPE.DATA, { flags: FLAG.END_STREAM, stream, payload: prefixed }),
  ]);
}

/** One attacker's connection. What comes in is thrown away unless `isReading` is false: then it stays in the kernel. */
export class RawConnection {
  readonly socket: Socket;
  isConnected = false;
  isClosed = false;
  closedAfterMs: number | undefined;
  receivedBytes = 0;
  readonly #openedMs = performance.now();

  constructor(port: number, options: { readonly isReading?: boolean } = {}) {
    this.socket = connect({ host: "127.0.0.1", port });
    this.socket.setNoDelay(true);
    this.socket.on("connect", () => {
      this.isConnected = true;
    });
    this.socket.on("error", () => {});
    this.socket.on("close", () => {
      this.isClosed = true;
      this.closedAfterMs = performance.now() - this.#openedMs;
    });
    if (options.isReading === false) this.socket.pause();
    else
      this.socket.on("data", (bytes) => {
        this.receivedBytes += bytes.length;
      });
  }

  /** Preface and SETTINGS, as a client starts. */
  greet(...pairs: readonly (readonly [id: number, value: number])[]): this {
    this.send(PREFACE, settings(...pairs));
    return this;
  }

  /** Writes, whether there is room or not. */
  send(...frames: readonly Uint8Array[]): boolean {
    return this.isClosed || this.socket.destroyed ? false : this.socket.write(Buffer.concat(frames));
  }

  /** Sends `chunk(n)` again and again, as fast as the server takes it, until it closes or the time is over. */
  async flood(chunk: (turn: number) => Uint8Array, deadlineMs: number): Promise<void> {
    const end = performance.now() + deadlineMs;
    for (let turn = 0; !this.isClosed && performance.now() < end; turn += 1) {
      if (this.send(chunk(turn))) {
        await new Promise((resolve) => setImmediate(resolve));
      } else {
        await this.#drained();
      }
    }
  }

  /** Room in the kernel's buffer, or 50 ms: a server that reads nothing is asked again until the flood's end. */
  #drained(): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.socket.off("drain", done);
        resolve();
      };
      const timer = setTimeout(done, 50);
      this.socket.once("drain", done);
    });
  }

  /** Resolves when something came, and nothing more for a moment; at the latest after so many ms. */
  async heard(deadlineMs: number): Promise<void> {
    const end = performance.now() + deadlineMs;
    const before = this.receivedBytes;
    let last = before;
    while (!this.isClosed && performance.now() < end) {
      await new Promise((resolve) => setTimeout(resolve, 2));
      if (this.receivedBytes > before && this.receivedBytes === last) return;
      last = this.receivedBytes;
    }
  }

  destroy(): void {
    this.socket.destroy();
  }
}

/** The same frame many times in one buffer. */
export function repeated(bytes: Uint8Array, count: number): Buffer {
  return Buffer.concat(Array.from({ length: count }, () => bytes));
}
