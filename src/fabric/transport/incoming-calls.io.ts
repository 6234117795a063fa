/** Calls that other nodes make here: read, decoded, and held until they are answered. Who proves nothing is heard only as far as its name. */
import type { ServerHttp2Stream } from "node:http2";
import { WaymarkError } from "../../lib/errors.ts";
import { type AssemblyBounds, framed, MessageAssembler } from "../../lib/grpc-frames.ts";
import { patientNowMs } from "../../lib/patient-time.io.ts";
import type { CallId } from "../io-types.ts";
import { decodeCallRequest, encodeCallResponse } from "../wire/call-codec.ts";
import type { CallRequest, CallResponse, PeerIdentity } from "../wire/messages.ts";
import type { WireTraffic } from "./traffic.ts";

export interface IncomingCallLimits {
  /** Calls of others that wait for our answer; those of strangers are counted apart. */
  readonly maxIncomingCalls: number;
  /** Calls of strangers that have not wholly arrived. */
  readonly maxStrangerCalls: number;
  /** Longest a call of another may take, its arrival included. */
  readonly answerTimeoutMs: number;
  /** Largest message received. */
  readonly maxMessageBytes: number;
  /** Largest of a stranger: enough to say who it is. */
  readonly maxStrangerBytes: number;
  /** Of messages that have not wholly arrived. */
  readonly maxBufferedBytes: number;
}

export interface IncomingCallEvents {
  asked(call: CallId, request: CallRequest, identity: PeerIdentity): void;
  /** Whether who proves this is refused, whatever it asks. */
  isStranger(identity: PeerIdentity): boolean;
  /** Somebody was turned away. */
  refused(why: string, address: string): void;
}

interface Pending {
  readonly stream: ServerHttp2Stream;
  readonly deadlineMonoMs: number;
}

export const HEADERS = { ":status": 200, "content-type": "application/grpc+proto" } as const;
/** Without `date`, which gRPC has no use for and Node formats anew for each answer. */
export const WITH_TRAILERS = { waitForTrailers: true, sendDate: false } as const;
const TRAILERS_ONLY = { endStream: true, sendDate: false } as const;
/** gRPC status codes that the fabric answers with. */
export const STATUS = {
  OK: 0,
  INVALID_ARGUMENT: 3,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  UNIMPLEMENTED: 12,
  UNAVAILABLE: 14,
} as const;

export class IncomingCalls {
  readonly #limits: IncomingCallLimits;
  readonly #events: IncomingCallEvents;
  readonly #traffic: WireTraffic;
  readonly #bounds: AssemblyBounds;
  /** Apart, so that strangers cannot take the room of peers. */
  readonly #strangerBounds: AssemblyBounds;
  /** Those that still arrive have no request yet. */
  readonly #pending = new Map<CallId, Pending>();
  /** Those of `#pending` that strangers made. */
  readonly #strangers = new Set<CallId>();
  #nextCall = 1;

  constructor(limits: IncomingCallLimits, parts: { readonly events: IncomingCallEvents; readonly traffic: WireTraffic }) {
    const { maxMessageBytes, maxBufferedBytes, maxStrangerBytes, maxStrangerCalls } = limits;
    this.#limits = limits;
    this.#events = parts.events;
    this.#traffic = parts.traffic;
    this.#bounds = { maxMessageBytes, maxBufferedBytes, bufferedBytes: 0 };
    const strangerBytes = maxStrangerCalls * STRANGER_CHUNKS * maxStrangerBytes;
    this.#strangerBounds = { maxMessageBytes: maxStrangerBytes, maxBufferedBytes: strangerBytes, bufferedBytes: 0 };
  }

  get size(): number {
    return this.#pending.size;
  }

  /** Of messages that have not wholly arrived. */
  get bufferedBytes(): number {
    return this.#bounds.bufferedBytes + this.#strangerBounds.bufferedBytes;
  }

  /** Reads the one message of a call and asks it; refuses it when there is no room, and when it is none. */
  accept(stream: ServerHttp2Stream, kind: CallRequest["kind"], identity: PeerIdentity): void {
    const isStranger = this.#events.isStranger(identity);
    if (!this.#hasRoom(isStranger)) return refuse(stream, STATUS.RESOURCE_EXHAUSTED, "too many calls");
    const call = this.#nextCall;
    this.#nextCall += 2;
    this.#pending.set(call, { stream, deadlineMonoMs: patientNowMs() + this.#limits.answerTimeoutMs });
    if (isStranger) this.#strangers.add(call);
    const assembler = new MessageAssembler(isStranger ? this.#strangerBounds : this.#bounds);
    let request: CallRequest | undefined;
    const fail = (error: unknown) => {
      if (!(error instanceof WaymarkError)) throw error;
      this.#forget(call);
      assembler.drop();
      this.#events.refused(isStranger ? `${kind} of a stranger: ${error.message}` : `${kind}: ${error.message}`, identity.address);
      if (isStranger) refuse(stream, STATUS.PERMISSION_DENIED, REFUSED);
      else refuse(stream, STATUS.INVALID_ARGUMENT, error.message);
    };
    stream.on("data", (chunk: Buffer) => {
      if (!this.#pending.has(call) || request !== undefined) return;
      try {
        assembler.push(chunk);
        const bytes = assembler.next();
        if (bytes === undefined) return;
        request = decodeCallRequest(kind, bytes);
        this.#traffic.count("received", kind, bytes.length);
        assembler.drop();
        this.#events.asked(call, request, identity);
      } catch (error) {
        fail(error);
      }
    });
    stream.on("close", () => {
      assembler.drop();
      this.#forget(call);
    });
  }

  /** Answers a call; undefined refuses it. A call that is gone or answered is passed over. */
  answer(call: CallId, response: CallResponse | undefined, why = REFUSED): void {
    const pending = this.#pending.get(call);
    if (pending === undefined) return;
    this.#forget(call);
    const { stream } = pending;
    if (response === undefined) return refuse(stream, STATUS.PERMISSION_DENIED, why);
    if (stream.destroyed || stream.closed) return;
    const bytes = encodeCallResponse(response);
    this.#traffic.count("sent", response.kind, bytes.length);
    stream.respond(HEADERS, WITH_TRAILERS);
    stream.end(framed(bytes));
  }

  /** Looks at its clocks, by `patientDueMs`; called about four times a second. */
  check(dueMs: number): void {
    for (const [call, { stream, deadlineMonoMs }] of this.#pending) {
      if (dueMs <= deadlineMonoMs) continue;
      this.#forget(call);
      refuse(stream, STATUS.UNAVAILABLE, "no answer in time");
    }
  }

  #hasRoom(isStranger: boolean): boolean {
    const { maxStrangerCalls, maxIncomingCalls } = this.#limits;
    if (isStranger) return this.#strangers.size < maxStrangerCalls;
    return this.#pending.size - this.#strangers.size < maxIncomingCalls;
  }

  #forget(call: CallId): void {
    this.#pending.delete(call);
    this.#strangers.delete(call);
  }
}

/** What a stranger's call may hold for each byte it may say: what came with the last of them is held too. */
const STRANGER_CHUNKS = 8;

const REFUSED = "refused";

/** Headers and status in one; what the client still sends is not wanted. */
export function refuse(stream: ServerHttp2Stream, code: number, message: string): void {
  if (stream.destroyed || stream.closed) return;
  if (!stream.headersSent) {
    const status = { "grpc-status": String(code), "grpc-message": encodeURI(message.toWellFormed()) };
    stream.respond({ ...HEADERS, ...status }, TRAILERS_ONLY);
  }
  stream.close();
}
