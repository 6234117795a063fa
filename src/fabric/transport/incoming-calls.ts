/**
 * Decodes calls from other nodes and stores them until they are answered. If the peer is unknown, it reads only as much as is needed to identify the
 * peer.
 */
import type { MethodCall, SingleRequestMethod } from "../../grpc/server/method.ts";
import type { AssemblyBounds } from "../../grpc/wire/message-reader.ts";
import { StatusError } from "../../grpc/wire/status.ts";
import { CODES, WaymarkError } from "../../lib/errors.ts";
import type { CallId } from "../io-types.ts";
import { decodeCallRequest, encodeCallResponse, pathOf } from "../wire/call-codec.ts";
import type { FabricCallRequest, FabricCallResponse, PeerIdentity } from "../wire/messages.ts";
import type { ServiceParts } from "./link-stream.ts";

export interface IncomingCallEvents {
  requested(call: CallId, request: FabricCallRequest, identity: PeerIdentity): void;
  /** Whether a peer with this identity is refused, regardless of the request. */
  isStranger(identity: PeerIdentity): boolean;
}

/** A call that is still being received or is waiting for its answer. */
interface PendingIncomingCall {
  readonly id: CallId;
  readonly call: MethodCall;
  readonly identity: PeerIdentity;
  readonly isStranger: boolean;
  readonly deadlineMs: number;
}

/** Number of bytes that an unknown peer's call may buffer per byte of its message limit, because the last chunk is buffered as a whole. */
const STRANGER_CHUNKS = 8;
const REFUSED = "refused";

export class IncomingCalls {
  readonly #parts: ServiceParts<IncomingCallEvents>;
  readonly #bounds: AssemblyBounds;
  /** There are separate limits, so that unknown peers cannot use up the memory for known peers. */
  readonly #strangerBounds: AssemblyBounds;
  readonly #byId = new Map<CallId, PendingIncomingCall>();
  readonly #byCall = new WeakMap<MethodCall, PendingIncomingCall>();
  #strangerCount = 0;
  #nextCall = 1;

  constructor(parts: ServiceParts<IncomingCallEvents>) {
    const { maxMessageBytes, maxBufferedBytes, maxStrangerBytes, maxStrangerCalls } = parts.limits;
    this.#parts = parts;
    this.#bounds = { maxMessageBytes, maxBufferedBytes, bufferedBytes: 0 };
    const strangerBytes = maxStrangerCalls * STRANGER_CHUNKS * maxStrangerBytes;
    this.#strangerBounds = { maxMessageBytes: maxStrangerBytes, maxBufferedBytes: strangerBytes, bufferedBytes: 0 };
  }

  get size(): number {
    return this.#byId.size;
  }

  /** Buffered bytes of messages that have not fully arrived. */
  get bufferedBytes(): number {
    return this.#bounds.bufferedBytes + this.#strangerBounds.bufferedBytes;
  }

  method(kind: FabricCallRequest["kind"]): SingleRequestMethod {
    return {
      path: pathOf(kind),
      kind: "unary",
      boundsFor: (call) => this.#arriving(call),
      handle: (bytes, call) => this.#requested(kind, bytes, call),
      refused: (error, call) => this.#refused(kind, error, call),
    };
  }

  /** Answers a call, or refuses it if `response` is undefined. Ignores a call that has ended or has been answered before. */
  answer(id: CallId, response: FabricCallResponse | undefined, why = REFUSED): void {
    const pending = this.#byId.get(id);
    if (pending === undefined) return;
    this.#forget(pending);
    if (response === undefined) return pending.call.finish({ code: CODES.PERMISSION_DENIED, message: why });
    const bytes = encodeCallResponse(response);
    this.#parts.traffic.count("sent", response.kind, bytes.length);
    pending.call.respond(bytes);
  }

  /** Checks timeouts, using the stall-aware clock. Called about four times per second. */
  check(dueMs: number): void {
    for (const pending of this.#byId.values()) {
      if (dueMs <= pending.deadlineMs) continue;
      this.#forget(pending);
      pending.call.finish({ code: CODES.UNAVAILABLE, message: "this node did not answer in time" });
    }
  }

  /** Called when a call begins to arrive. Throws if too many calls are pending. */
  #arriving(call: MethodCall): AssemblyBounds {
    const { limits, events, clock, peerOf } = this.#parts;
    const { identity } = peerOf(call);
    const isStranger = events.isStranger(identity);
    const hasRoom = isStranger
      ? this.#strangerCount < limits.maxStrangerCalls
      : this.#byId.size - this.#strangerCount < limits.maxIncomingCalls;
    if (!hasRoom) throw new StatusError({ code: CODES.RESOURCE_EXHAUSTED, message: "too many calls" });
    const pending = { id: this.#nextCall, call, identity, isStranger, deadlineMs: clock.stallAwareMs() + limits.answerTimeoutMs };
    this.#nextCall += 2;
    this.#byId.set(pending.id, pending);
    this.#byCall.set(call, pending);
    if (isStranger) this.#strangerCount += 1;
    call.onCancelled(() => this.#forget(pending));
    return isStranger ? this.#strangerBounds : this.#bounds;
  }

  #requested(kind: FabricCallRequest["kind"], bytes: Uint8Array, call: MethodCall): void {
    const pending = this.#byCall.get(call);
    if (pending === undefined) return;
    let request: FabricCallRequest;
    try {
      request = decodeCallRequest(kind, bytes);
    } catch (thrown) {
      if (!(thrown instanceof WaymarkError)) throw thrown;
      return this.#refused(kind, thrown, call);
    }
    this.#parts.traffic.count("received", kind, bytes.length);
    this.#parts.events.requested(pending.id, request, pending.identity);
  }

  #refused(kind: FabricCallRequest["kind"], error: WaymarkError, call: MethodCall): void {
    const pending = this.#byCall.get(call);
    if (pending === undefined) return;
    this.#forget(pending);
    if (error.reason === "deadline_exceeded") return call.fail(error);
    const { isStranger, identity } = pending;
    this.#parts.events.refused(
      isStranger ? `${kind} from an unknown peer: ${error.message}` : `${kind}: ${error.message}`,
      identity.address,
    );
    const status = isStranger
      ? { code: CODES.PERMISSION_DENIED, message: REFUSED }
      : { code: CODES.INVALID_ARGUMENT, message: error.message };
    call.finish(status);
  }

  #forget(pending: PendingIncomingCall): void {
    this.#byCall.delete(pending.call);
    if (this.#byId.delete(pending.id) && pending.isStranger) this.#strangerCount -= 1;
  }
}
