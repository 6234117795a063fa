/**
 * A bare gRPC client over plain TCP. It reads frames straight from the socket's bytes and decodes no headers, which costs a
 * tenth of node:http2: the server on the other core stays the limit. Both peers of a comparison are driven by it alike.
 */
import { connect, type Socket } from "node:net";
import { callHeaders, FLAG, FRAME, frame, grpcFrame, HEAD_BYTES, MAX_FRAME_BYTES, setting, uint32 } from "./_frames.ts";

const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
const NOTHING = Buffer.alloc(0);
const START_WINDOW = 65_535;
const MAX_WINDOW = 0x7fff_ffff;
/** Connection window handed back in pieces of this size. */
const REFILL_BYTES = 64 * 1024 * 1024;

/** Sees each message where it lies; `bytes` is only good during the call. */
export type OnMessage = (bytes: Buffer, start: number, end: number) => void;

export interface Address {
  readonly host: string;
  readonly port: number;
}

interface Call {
  readonly id: number;
  readonly onMessage: OnMessage;
  readonly onEnd: (why: string) => void;
  partial: Buffer;
  sendWindow: number;
  unsent: Buffer;
  isHalfClosed: boolean;
}

/** One call with messages in both directions. */
export interface Stream {
  send(message: Uint8Array): void;
  end(): void;
  cancel(): void;
}

export interface StreamOptions {
  readonly onMessage: OnMessage;
  /** The server ended it, or the connection is gone. */
  readonly onEnd?: (why: string) => void;
}

export interface WireOptions {
  /** What a server may send on a stream that nobody reads; all there is when absent. */
  readonly streamWindowBytes?: number;
  /** Shown with every call. */
  readonly token?: string;
}

/** A connection. */
export class Wire {
  readonly #socket: Socket;
  readonly #authority: string;
  readonly #token: string;
  readonly #headers = new Map<string, Buffer>();
  readonly #calls: (Call | undefined)[] = [];
  readonly #blocked = new Set<Call>();
  #carry: Buffer = NOTHING;
  #nextId = 1;
  #sendWindow = START_WINDOW;
  #startWindow = START_WINDOW;
  #consumed = 0;
  #isCorked = false;
  #goodbye = "";
  #fault = "";
  isClosed = false;
  /** Bytes read, framing included. */
  bytesRead = 0;

  private constructor(socket: Socket, authority: string, { streamWindowBytes = MAX_WINDOW, token = "" }: WireOptions) {
    this.#socket = socket;
    this.#authority = authority;
    this.#token = token;
    socket.setNoDelay(true);
    socket.on("data", (chunk: Buffer) => this.#take(chunk));
    socket.on("error", (error) => {
      this.#fault = ` (${error.message})`;
      socket.destroy();
    });
    socket.on("close", () => this.#closed());
    this.#write(PREFACE);
    this.#write(frame(FRAME.SETTINGS, 0, 0, Buffer.concat([setting(2, 0), setting(4, streamWindowBytes)])));
    this.#write(frame(FRAME.WINDOW_UPDATE, 0, 0, uint32(MAX_WINDOW - START_WINDOW)));
  }

  static async open(to: Address, options: WireOptions = {}): Promise<Wire> {
    const socket = connect(to);
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", reject);
    });
    return new Wire(socket, `${to.host}:${to.port}`, options);
  }

  /** Opens a call. */
  stream(path: string, { onMessage, onEnd = () => {} }: StreamOptions): Stream {
    const id = this.#nextId;
    this.#nextId += 2;
    const call: Call = { id, onMessage, onEnd, partial: NOTHING, sendWindow: this.#startWindow, unsent: NOTHING, isHalfClosed: false };
    this.#calls[id >>> 1] = call;
    let block = this.#headers.get(path);
    if (block === undefined) this.#headers.set(path, (block = callHeaders(this.#authority, path, this.#token)));
    this.#write(frame(FRAME.HEADERS, FLAG.END_HEADERS, id, block));
    return {
      send: (message) => {
        call.unsent = call.unsent.length === 0 ? grpcFrame(message) : Buffer.concat([call.unsent, grpcFrame(message)]);
        this.#push(call);
      },
      end: () => {
        call.isHalfClosed = true;
        if (call.unsent.length === 0) this.#write(frame(FRAME.DATA, FLAG.END_STREAM, id, NOTHING));
      },
      cancel: () => {
        if (this.#calls[id >>> 1] === undefined) return;
        this.#calls[id >>> 1] = undefined;
        this.#blocked.delete(call);
        this.#write(frame(FRAME.RESET, 0, id, uint32(8)));
      },
    };
  }

  /** One message there, one back, and the call's end, which tells a client its status. Rejects when the call ends without an answer. */
  unary(path: string, message: Uint8Array): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      let answer: Buffer | undefined;
      const onMessage: OnMessage = (bytes, start, end) => {
        answer = Buffer.from(bytes.subarray(start, end));
      };
      const onEnd = (why: string) => (answer === undefined ? reject(new Error(`${path} was refused: ${why}`)) : resolve(answer));
      const stream = this.stream(path, { onMessage, onEnd });
      stream.send(message);
      stream.end();
    });
  }

  close(): void {
    this.#socket.destroy();
  }

  #push(call: Call): void {
    while (call.unsent.length > 0) {
      const size = Math.min(call.unsent.length, MAX_FRAME_BYTES, call.sendWindow, this.#sendWindow);
      if (size <= 0) {
        this.#blocked.add(call);
        return;
      }
      const part = call.unsent.subarray(0, size);
      call.unsent = call.unsent.subarray(size);
      call.sendWindow -= size;
      this.#sendWindow -= size;
      this.#write(frame(FRAME.DATA, 0, call.id, part));
    }
    this.#blocked.delete(call);
    if (call.isHalfClosed) this.#write(frame(FRAME.DATA, FLAG.END_STREAM, call.id, NOTHING));
  }

  /** Frames of one turn leave in one write. */
  #write(bytes: Buffer): void {
    if (!this.#isCorked) {
      this.#isCorked = true;
      this.#socket.cork();
      process.nextTick(() => {
        this.#isCorked = false;
        this.#socket.uncork();
      });
    }
    this.#socket.write(bytes);
  }

  // HOT: every byte a server sends; bench/watch.ts needs this to cost less than sending them.
  #take(chunk: Buffer): void {
    this.bytesRead += chunk.length;
    const bytes = this.#carry.length === 0 ? chunk : Buffer.concat([this.#carry, chunk]);
    let at = 0;
    while (bytes.length - at >= HEAD_BYTES) {
      const size = bytes.readUIntBE(at, 3);
      const end = at + HEAD_BYTES + size;
      if (end > bytes.length) break;
      const type = bytes[at + 3] ?? 0;
      const flags = bytes[at + 4] ?? 0;
      const id = bytes.readUInt32BE(at + 5) & MAX_WINDOW;
      if (type === FRAME.DATA) this.#data(bytes, at + HEAD_BYTES, end, id);
      else this.#control(type, flags, id, bytes.subarray(at + HEAD_BYTES, end));
      if ((type === FRAME.DATA || type === FRAME.HEADERS) && (flags & FLAG.END_STREAM) !== 0) this.#ended(id, "ended");
      at = end;
    }
    this.#carry = at === bytes.length ? NOTHING : bytes.subarray(at);
  }

  #data(bytes: Buffer, start: number, end: number, id: number): void {
    this.#consumed += end - start;
    if (this.#consumed >= REFILL_BYTES) {
      this.#write(frame(FRAME.WINDOW_UPDATE, 0, 0, uint32(this.#consumed)));
      this.#consumed = 0;
    }
    const call = this.#calls[id >>> 1];
    if (call === undefined) return;
    if (call.partial.length === 0) {
      const left = this.#messages(call, bytes, start, end);
      if (left < end) call.partial = Buffer.from(bytes.subarray(left, end));
      return;
    }
    const whole = Buffer.concat([call.partial, bytes.subarray(start, end)]);
    const left = this.#messages(call, whole, 0, whole.length);
    call.partial = left === whole.length ? NOTHING : whole.subarray(left);
  }

  /** Hands over whole messages; returns where the first incomplete one starts. */
  #messages(call: Call, bytes: Buffer, start: number, end: number): number {
    let at = start;
    while (end - at >= 5) {
      const size = bytes.readUInt32BE(at + 1);
      if (at + 5 + size > end) break;
      call.onMessage(bytes, at + 5, at + 5 + size);
      at += 5 + size;
    }
    return at;
  }

  #control(type: number, flags: number, id: number, payload: Buffer): void {
    if (type === FRAME.SETTINGS && (flags & FLAG.ACK) === 0) this.#settings(payload);
    else if (type === FRAME.PING && (flags & FLAG.ACK) === 0) this.#write(frame(FRAME.PING, FLAG.ACK, 0, payload));
    else if (type === FRAME.RESET) this.#ended(id, `reset with ${payload.readUInt32BE()}`);
    else if (type === FRAME.GOAWAY) this.#goodbye = `, told to go away with ${payload.readUInt32BE(4)} ${payload.toString("latin1", 8)}`;
    else if (type === FRAME.WINDOW_UPDATE) {
      const by = payload.readUInt32BE();
      if (id === 0) this.#sendWindow += by;
      const call = this.#calls[id >>> 1];
      if (id !== 0 && call !== undefined) call.sendWindow += by;
      for (const blocked of Array.from(this.#blocked)) this.#push(blocked);
    }
  }

  #settings(payload: Buffer): void {
    for (let at = 0; at + 6 <= payload.length; at += 6) {
      if (payload.readUInt16BE(at) !== 4) continue;
      const by = payload.readUInt32BE(at + 2) - this.#startWindow;
      this.#startWindow += by;
      for (const call of this.#calls) if (call !== undefined) call.sendWindow += by;
    }
    this.#write(frame(FRAME.SETTINGS, FLAG.ACK, 0, NOTHING));
    for (const blocked of Array.from(this.#blocked)) this.#push(blocked);
  }

  #ended(id: number, why: string): void {
    const call = this.#calls[id >>> 1];
    if (call === undefined) return;
    this.#calls[id >>> 1] = undefined;
    this.#blocked.delete(call);
    call.onEnd(why);
  }

  #closed(): void {
    this.isClosed = true;
    const open = this.#calls.splice(0);
    for (const call of open) call?.onEnd(`connection closed${this.#fault}${this.#goodbye}`);
  }
}
