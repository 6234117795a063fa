/**
 * DNS over TCP (RFC 7766) and TLS (RFC 7858): answers framed queries, with limits on all resources that a client can use. Responses are sent in the
 * order of the queries, except that a query that waits for a fetch does not delay later ones.
 */

import type { Socket } from "node:net";
import { type StallAwareTimeout, stallAwareTimeout } from "../../lib/stall-aware-time.io.ts";
import type { PeerCertificate } from "../../policy/identity/certificates.ts";
import type { DropReason } from "./counts.ts";

export interface TcpLimits {
  /**
   * Maximum number of concurrent connections. Each additional connection causes the longest-idle connection to be closed. Connections with a zone
   * transfer are closed only if there are no other connections.
   */
  readonly maxConnections: number;
  /** A connection is closed when, for this long, no complete query was answered and no response was read. */
  readonly idleTimeoutMs: number;
  /** The connection is closed when it receives a longer query. A question with EDNS options needs a fraction of this size. */
  readonly maxQueryBytes: number;
  /** Maximum number of queries per connection whose responses are delayed. At this number, reading from the connection is paused. */
  readonly maxWaitingPerConnection: number;
}

/** The peer of a connection. */
export interface TcpPeer {
  /** `dot` is DNS over TLS. */
  readonly transport: "tcp" | "dot";
  readonly address: string;
  /** The certificate from the handshake. */
  readonly certificate: PeerCertificate | undefined;
  /** Whether a zone may be transferred to the peer. Over TLS, this depends on the connection properties (RFC 9103, 7). */
  readonly mayTransfer: boolean;
}

export interface TcpHandlers {
  /**
   * Returns the answer to one query, or undefined to close the connection. A promise resolves to undefined only while the gateway is closing. A
   * sequence of messages is read while the connection has buffer space, and is cancelled when the connection closes. Such a sequence has its own time
   * limit.
   */
  answer(query: Uint8Array, peer: TcpPeer): TcpAnswer;
  dropped(reason: DropReason): void;
}

export type TcpAnswer = Uint8Array | Promise<Uint8Array | undefined> | AsyncIterable<Uint8Array> | undefined;

/** Every query has at least a header. */
const MIN_QUERY_BYTES = 12;
const LENGTH_BYTES = 2;
/**
 * Maximum number of queries answered per event-loop turn, across all connections. Thousands of queries can arrive in one batch and would block all
 * other work.
 */
const ANSWERS_PER_TURN = 16;

/** The TCP and TLS connections of a gateway, which share the limits and are served round-robin. */
export class TcpConnections {
  readonly #limits: TcpLimits;
  readonly #handlers: TcpHandlers;
  /** Open connections, longest idle first. A connection moves to the end of the list with each query and after a zone transfer. */
  readonly #open = new Set<TcpConnection>();
  /** Connections with a complete query to answer, in order of decreasing waiting time. */
  readonly #ready = new Set<TcpConnection>();
  #isTurnDue = false;

  constructor(limits: TcpLimits, handlers: TcpHandlers) {
    this.#limits = limits;
    this.#handlers = handlers;
  }

  get size(): number {
    return this.#open.size;
  }

  add(socket: Socket, peer: TcpPeer): void {
    if (this.#open.size >= this.#limits.maxConnections) {
      this.#quietest()?.destroy();
      this.#handlers.dropped("overload");
    }
    const connection = new TcpConnection(socket, this.#limits, {
      answer: (query) => {
        this.#moveToEnd(connection);
        return this.#handlers.answer(query, peer);
      },
      dropped: (reason) => this.#handlers.dropped(reason),
      ready: () => this.#wait(connection),
      streamed: () => this.#moveToEnd(connection),
    });
    this.#open.add(connection);
    socket.once("close", () => {
      this.#open.delete(connection);
      this.#ready.delete(connection);
    });
  }

  #moveToEnd(connection: TcpConnection): void {
    if (this.#open.delete(connection)) this.#open.add(connection);
  }

  /**
   * Returns the connection to close. A client could open enough connections to interrupt every zone transfer, so connections with a transfer are
   * closed last. Only a few transfers run at a time, and a peer that stops reading is disconnected.
   */
  #quietest(): TcpConnection | undefined {
    const [oldest] = this.#open;
    for (const connection of this.#open) if (!connection.isStreaming) return connection;
    return oldest;
  }

  #wait(connection: TcpConnection): void {
    this.#ready.add(connection);
    this.#turnLater();
  }

  /** At most one pass is scheduled, even if some ready connections close and other connections become ready. */
  #turnLater(): void {
    if (this.#isTurnDue) return;
    this.#isTurnDue = true;
    setImmediate(() => {
      this.#isTurnDue = false;
      this.#turn();
    });
  }

  /** Answers one query per ready connection, round-robin. */
  #turn(): void {
    for (let left = ANSWERS_PER_TURN; left > 0; left--) {
      const [first] = this.#ready;
      if (first === undefined) return;
      this.#ready.delete(first);
      if (first.answerNext()) this.#ready.add(first);
    }
    if (this.#ready.size > 0) this.#turnLater();
  }

  /** Flushes written responses and closes the connections. Connections that are still open after `graceMs` are destroyed. */
  async close(graceMs: number): Promise<void> {
    const deadline = setTimeout(() => {
      for (const connection of this.#open) connection.destroy();
    }, graceMs);
    await Promise.all([...this.#open].map((connection) => connection.end()));
    clearTimeout(deadline);
  }
}

interface ConnectionHandlers {
  answer(query: Uint8Array): ReturnType<TcpHandlers["answer"]>;
  dropped(reason: DropReason): void;
  /** Called when the connection has a complete query, and waits for `answerNext`. */
  ready(): void;
  /** Called when a zone transfer has ended. */
  streamed(): void;
}

class TcpConnection {
  readonly #socket: Socket;
  readonly #limits: TcpLimits;
  readonly #handlers: ConnectionHandlers;
  readonly #idle: StallAwareTimeout;
  /** Number of running zone transfers. */
  #streamCount = 0;
  #onRoom = Promise.withResolvers<void>();
  #pending: Buffer = Buffer.alloc(0);
  #isWaitingForDrain = false;
  /** Number of queries with delayed responses. */
  #waitingCount = 0;
  /** Whether no more queries will follow, because the peer closed its side or sent an invalid query. */
  #hasEnded = false;
  /** Whether responses are no longer sent and input is ignored. */
  #isClosing = false;

  constructor(socket: Socket, limits: TcpLimits, handlers: ConnectionHandlers) {
    this.#socket = socket;
    this.#limits = limits;
    this.#handlers = handlers;
    // Only complete queries restart the timeout, so that a client cannot hold a connection open by sending single bytes.
    this.#idle = stallAwareTimeout(() => {
      // The gateway causes this delay, because it is still building the transfer.
      if (this.#streamCount > 0 && !this.#isWaitingForDrain) return this.#idle.refresh();
      handlers.dropped("idle");
      socket.destroy();
    }, limits.idleTimeoutMs);
    socket.setNoDelay(true);
    socket.on("data", (chunk: Buffer) => this.#take(chunk));
    socket.on("drain", () => this.#drained());
    socket.on("end", () => {
      this.#hasEnded = true;
      this.#goOn();
    });
    // The peer disconnected. A "close" event follows.
    socket.on("error", () => {});
    socket.once("close", () => {
      this.#idle.clear();
      this.#onRoom.resolve();
    });
  }

  /** Whether a zone transfer is in progress. */
  get isStreaming(): boolean {
    return this.#streamCount > 0;
  }

  destroy(): void {
    this.#socket.destroy();
  }

  end(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    if (this.#socket.destroyed) return Promise.resolve();
    this.#isClosing = true;
    this.#onRoom.resolve();
    this.#socket.once("close", () => resolve());
    // The connection does not wait for the peer to close its side.
    this.#socket.end(() => this.#socket.destroy());
    return promise;
  }

  #take(chunk: Buffer): void {
    if (this.#isClosing || this.#hasEnded) return;
    this.#pending = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    this.#goOn();
  }

  #drained(): void {
    if (!this.#isWaitingForDrain || this.#isClosing) return;
    this.#isWaitingForDrain = false;
    this.#onRoom.resolve();
    this.#onRoom = Promise.withResolvers<void>();
    this.#idle.refresh();
    this.#goOn();
  }

  /** Returns whether the peer reads its responses and has a free slot for delayed queries. */
  #mayAnswer(): boolean {
    return !this.#isWaitingForDrain && this.#waitingCount < this.#limits.maxWaitingPerConnection;
  }

  /** If there is a complete query, queues the connection and pauses reading until the query is processed. Otherwise continues to read. */
  #goOn(): void {
    const hasQuery = this.#nextEnd() !== undefined;
    if (hasQuery || !this.#mayAnswer()) {
      this.#socket.pause();
      if (hasQuery && this.#mayAnswer()) this.#handlers.ready();
      return;
    }
    this.#socket.resume();
    // Written responses are flushed first.
    if (this.#hasEnded && this.#waitingCount === 0) this.#socket.destroySoon();
  }

  /**
   * Returns the end of the first query. Returns undefined when the query is incomplete. A query with an invalid length ends directly after its length
   * field.
   */
  #nextEnd(): number | undefined {
    if (this.#pending.length < LENGTH_BYTES) return undefined;
    const length = this.#pending.readUInt16BE(0);
    if (this.#isRefused(length)) return LENGTH_BYTES;
    return LENGTH_BYTES + length > this.#pending.length ? undefined : LENGTH_BYTES + length;
  }

  #isRefused(length: number): boolean {
    return length < MIN_QUERY_BYTES || length > this.#limits.maxQueryBytes;
  }

  /** Answers the first query, or starts its delayed answer. Returns whether another query can be answered. */
  answerNext(): boolean {
    const end = this.#isClosing || this.#socket.destroyed || !this.#mayAnswer() ? undefined : this.#nextEnd();
    if (end === undefined) return false;
    const query = this.#pending.subarray(LENGTH_BYTES, end);
    this.#pending = this.#pending.subarray(end);
    const answer = this.#isRefused(query.length) ? undefined : this.#handlers.answer(query);
    if (answer === undefined) this.#refuse();
    else if (answer instanceof Promise) void this.#sendLater(answer);
    else if (Symbol.asyncIterator in answer) void this.#sendAll(answer);
    else this.#send(answer);
    if (this.#mayAnswer() && this.#nextEnd() !== undefined) return true;
    this.#goOn();
    return false;
  }

  async #sendLater(answer: Promise<Uint8Array | undefined>): Promise<void> {
    this.#waitingCount += 1;
    const late = await answer;
    this.#waitingCount -= 1;
    if (late === undefined || this.#isClosing || this.#socket.destroyed) return;
    // The response is sent even if the peer does not read. `maxWaitingPerConnection` limits the number of such responses.
    this.#send(late);
    this.#goOn();
  }

  async #sendAll(messages: AsyncIterable<Uint8Array>): Promise<void> {
    this.#waitingCount += 1;
    this.#streamCount += 1;
    try {
      for await (const message of messages) {
        if (this.#isClosing || this.#socket.destroyed) break;
        this.#send(message);
        while (this.#isWaitingForDrain && !this.#isClosing && !this.#socket.destroyed) await this.#onRoom.promise;
      }
    } catch {
      // The producer already reported the error. Closing the connection aborts the incomplete transfer (RFC 5936, 2.2.2).
      this.#socket.destroy();
    }
    this.#waitingCount -= 1;
    this.#streamCount -= 1;
    this.#handlers.streamed();
    if (!this.#isClosing && !this.#socket.destroyed) this.#goOn();
  }

  #send(answer: Uint8Array): void {
    this.#idle.refresh();
    if (!this.#socket.write(framed(answer))) this.#isWaitingForDrain = true;
  }

  /** Closes the connection after earlier queries have been answered. */
  #refuse(): void {
    this.#handlers.dropped("malformed");
    this.#hasEnded = true;
    this.#pending = Buffer.alloc(0);
  }
}

/** Returns the length and the message in one buffer, so that they are sent in one segment. */
function framed(message: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(LENGTH_BYTES + message.length);
  frame.writeUInt16BE(message.length, 0);
  frame.set(message, LENGTH_BYTES);
  return frame;
}
