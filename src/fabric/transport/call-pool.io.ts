/** Unary calls to other nodes over a bounded number of connections of their own, never a link's. */
import type { ClientHttp2Session, ClientHttp2Stream, IncomingHttpHeaders } from "node:http2";
import { WaymarkError } from "../../lib/errors.ts";
import { type AssemblyBounds, framed, MessageAssembler } from "../../lib/grpc-frames.ts";
import { patientNowMs, patientTimeout } from "../../lib/patient-time.io.ts";
import type { PeerIdentity } from "../wire/messages.ts";
import { detailField, MESSAGE_BOUNDS } from "../wire/validation.ts";
import { callHeaders, type Dial, DialError, type Dialled } from "./dial.io.ts";

export interface PoolLimits {
  /** Connections for calls. */
  readonly maxChannels: number;
  /** Calls waiting for an answer. */
  readonly maxCalls: number;
  /** A connection without calls is closed after this. */
  readonly idleMs: number;
  /** Largest answer. */
  readonly maxMessageBytes: number;
}

export interface PoolCall {
  readonly to: string;
  /** Method of FabricService. */
  readonly method: string;
  readonly bytes: Uint8Array;
  readonly timeoutMs: number;
}

/** The answer's bytes and who gave it, or undefined when there was none in time, and why if that is known; called once. */
export type PoolAnswer = (
  answer: { readonly bytes: Uint8Array; readonly identity: PeerIdentity } | undefined,
  failure?: CallFailure,
) => void;

export interface CallFailure {
  readonly why: string;
  /** The other side said no; else it was not reached. */
  readonly isRefused: boolean;
}

interface Channel {
  readonly address: string;
  readonly dialled: Dial;
  session: ClientHttp2Session | undefined;
  callCount: number;
  usedMonoMs: number;
}

export class CallPool {
  readonly #limits: PoolLimits;
  readonly #dial: (address: string, timeoutMs: number) => Dial;
  readonly #token: () => string;
  readonly #bounds: AssemblyBounds;
  readonly #channels = new Map<string, Channel>();
  #callCount = 0;
  #refusedCount = 0;

  constructor(limits: PoolLimits, parts: { readonly dial: (address: string, timeoutMs: number) => Dial; readonly token: () => string }) {
    this.#limits = limits;
    this.#dial = parts.dial;
    this.#token = parts.token;
    this.#bounds = { maxMessageBytes: limits.maxMessageBytes, maxBufferedBytes: 4 * limits.maxMessageBytes, bufferedBytes: 0 };
  }

  /** Open connections. */
  get channelCount(): number {
    return this.#channels.size;
  }

  /** Calls that were not made because of a bound. */
  get refusedCount(): number {
    return this.#refusedCount;
  }

  call(call: PoolCall, answer: PoolAnswer): void {
    const channel = this.#callCount < this.#limits.maxCalls ? this.#channel(call.to, call.timeoutMs) : undefined;
    if (channel === undefined) {
      this.#refusedCount += 1;
      answer(undefined);
      return;
    }
    this.#callCount += 1;
    channel.callCount += 1;
    let stream: ClientHttp2Stream | undefined;
    let isOver = false;
    const over: PoolAnswer = (result, failure) => {
      if (isOver) return;
      isOver = true;
      timer.clear();
      this.#callCount -= 1;
      channel.callCount -= 1;
      channel.usedMonoMs = patientNowMs();
      if (result === undefined) {
        stream?.close();
        this.#drop(channel);
      }
      answer(result, failure);
    };
    const timer = patientTimeout(() => over(undefined), call.timeoutMs);
    const send = (dialled: Dialled) => {
      if (!isOver) stream = this.#send(call, dialled, over);
    };
    channel.dialled.done.then(send, (error: Error) =>
      over(undefined, { why: error.message, isRefused: error instanceof DialError && error.isRefused }),
    );
  }

  /** Closes what was idle for long, by `patientDueMs`. */
  sweep(dueMs: number): void {
    for (const channel of this.#channels.values()) {
      if (channel.callCount === 0 && dueMs - channel.usedMonoMs > this.#limits.idleMs) this.#drop(channel);
    }
  }

  /** New calls use new connections: certificates have changed. */
  renew(): void {
    for (const channel of this.#channels.values()) this.#drop(channel);
  }

  #channel(address: string, timeoutMs: number): Channel | undefined {
    const known = this.#channels.get(address);
    if (known !== undefined) return known;
    if (this.#channels.size >= this.#limits.maxChannels && !this.#evict()) return undefined;
    const dialled = this.#dial(address, timeoutMs);
    const channel: Channel = { address, dialled, session: undefined, callCount: 0, usedMonoMs: patientNowMs() };
    this.#channels.set(address, channel);
    const adopt = ({ session }: Dialled) => {
      channel.session = session;
      session.once("close", () => this.#forget(channel));
      session.once("goaway", () => this.#forget(channel));
      session.unref();
      // Dropped while it was dialled.
      if (this.#channels.get(address) !== channel) this.#drop(channel);
    };
    dialled.done.then(adopt, () => this.#forget(channel));
    return channel;
  }

  /** Makes room by the longest idle one. */
  #evict(): boolean {
    let oldest: Channel | undefined;
    for (const channel of this.#channels.values()) {
      if (channel.callCount === 0 && (oldest === undefined || channel.usedMonoMs < oldest.usedMonoMs)) oldest = channel;
    }
    if (oldest !== undefined) this.#drop(oldest);
    return oldest !== undefined;
  }

  #forget(channel: Channel): void {
    if (this.#channels.get(channel.address) === channel) this.#channels.delete(channel.address);
  }

  /** No new calls on it; those open have their own deadlines, and after the longest of them it is gone. */
  #drop(channel: Channel): void {
    this.#forget(channel);
    const { session } = channel;
    if (channel.callCount > 0) {
      if (session === undefined) return;
      session.close();
      setTimeout(() => session.destroy(), DRAIN_MS).unref();
    } else if (session === undefined) channel.dialled.cancel();
    else session.destroy();
  }

  #send(call: PoolCall, { session, identity }: Dialled, over: PoolAnswer): ClientHttp2Stream | undefined {
    if (session.destroyed || session.closed) {
      over(undefined);
      return undefined;
    }
    const stream = session.request(callHeaders(call.method, this.#token(), call.timeoutMs));
    const assembler = new MessageAssembler(this.#bounds);
    let bytes: Uint8Array | undefined;
    let status: unknown;
    let message: unknown;
    const said = (headers: IncomingHttpHeaders & { readonly ":status"?: number }) => {
      status = headers["grpc-status"] ?? (isClientError(headers[":status"]) ? UNIMPLEMENTED : undefined);
      message = headers["grpc-message"];
    };
    stream.on("response", said);
    stream.on("trailers", said);
    stream.on("data", (chunk: Buffer) => {
      try {
        assembler.push(chunk);
        bytes ??= assembler.next();
      } catch (error) {
        if (!(error instanceof WaymarkError)) throw error;
        over(undefined, refusedWith(status, message) ?? NO_FABRIC);
      }
    });
    stream.on("error", () => over(undefined));
    stream.on("close", () => {
      assembler.drop();
      if (status === "0" && bytes !== undefined) over({ bytes, identity });
      else over(undefined, refusedWith(status, message));
    });
    stream.end(framed(call.bytes));
    return stream;
  }
}

/** gRPC statuses of who does not talk to us. Any other may be another the next time: it is busy, or stops. */
const INVALID_ARGUMENT = "3";
const PERMISSION_DENIED = "7";
const UNIMPLEMENTED = "12";
const UNAUTHENTICATED = "16";
const REFUSED: CallFailure = {
  why: "it refuses our calls: another cluster token, a certificate it does not take, or it has our own id",
  isRefused: true,
};
const NO_FABRIC: CallFailure = {
  why: "what answers there is no fabric listener: seeds are fabric addresses, at port 17421 unless set otherwise",
  isRefused: true,
};
/** What older nodes say, and those that say no more to whom they do not know. */
const NO_REASON = "refused";

function refusedWith(status: unknown, message: unknown): CallFailure | undefined {
  if (status === UNIMPLEMENTED || status === UNAUTHENTICATED) return NO_FABRIC;
  if (status !== PERMISSION_DENIED && status !== INVALID_ARGUMENT) return undefined;
  if (typeof message !== "string" || message === NO_REASON) return REFUSED;
  return { why: `it refuses our calls: ${detailField(decoded(message), MESSAGE_BOUNDS)}`, isRefused: true };
}

/** An HTTP server that is not gRPC's. */
function isClientError(httpStatus: number | undefined): boolean {
  return httpStatus !== undefined && httpStatus >= 400 && httpStatus < 500;
}

/** As gRPC percent-encodes it; what is not is left as it is. */
function decoded(message: string): string {
  try {
    return decodeURIComponent(message);
  } catch {
    return message;
  }
}

/** Longest a call lasts that was open when its connection was dropped. */
const DRAIN_MS = 60_000;
