/** Calls that other nodes make here: decoded, and held until they are answered. A caller that proves nothing is heard only as far as its name. */
import type { MethodCall, SingleRequestMethod } from "../../grpc/server/method.ts";
import type { AssemblyBounds } from "../../grpc/wire/message-reader.ts";
import { StatusError } from "../../grpc/wire/status.ts";
import { CODES, WaymarkError } from "../../lib/errors.ts";
import type { CallId } from "../io-types.ts";
import { decodeCallRequest, encodeCallResponse, pathOf } from "../wire/call-codec.ts";
import type { FabricCallRequest, FabricCallResponse, PeerIdentity } from "../wire/messages.ts";
import type { ServiceParts } from "./link-stream.ts";

export interface IncomingCallEvents {
  asked(call: CallId, request: FabricCallRequest, identity: PeerIdentity): void;
  /** Whether a peer that proves this is refused, whatever it asks. */
  isStranger(identity: PeerIdentity): boolean;
}

/** A call that still arrives, or waits for its answer. */
interface PendingIncomingCall {
  readonly id: CallId;
  readonly call: MethodCall;
  readonly identity: PeerIdentity;
  readonly isStranger: boolean;
  readonly deadlineMs: number;
}

/** What a stranger's call may hold for each byte it may say: what came with the last of them is held too. */
const STRANGER_CHUNKS = 8;
const REFUSED = "refused";

export class IncomingCalls {
  readonly #parts: ServiceParts<IncomingCallEvents>;
  readonly #bounds: AssemblyBounds;
  /** Apart, so that strangers cannot take the room of peers. */
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

  /** Of messages that have not wholly arrived. */
  get bufferedBytes(): number {
    return this.#bounds.bufferedBytes + this.#strangerBounds.bufferedBytes;
  }

  method(kind: FabricCallRequest["kind"]): SingleRequestMethod {
    return {
      path: pathOf(kind),
      kind: "unary",
      boundsFor: (call) => this.#arriving(call),
      handle: (bytes, call) => this.#asked(kind, bytes, call),
      refused: (error, call) => this.#refused(kind, error, call),
    };
  }

  /** Answers a call; undefined refuses it. A call that is gone or answered is passed over. */
  answer(id: CallId, response: FabricCallResponse | undefined, why = REFUSED): void {
    const pending = this.#byId.get(id);
    if (pending === undefined) return;
    this.#forget(pending);
    if (response === undefined) return pending.call.finish({ code: CODES.PERMISSION_DENIED, message: why });
    const bytes = encodeCallResponse(response);
    this.#parts.traffic.count("sent", response.kind, bytes.length);
    pending.call.respond(bytes);
  }

  /** Looks at its clocks, by stall-aware ms that are due; called about four times a second. */
  check(dueMs: number): void {
    for (const pending of this.#byId.values()) {
      if (dueMs <= pending.deadlineMs) continue;
      this.#forget(pending);
      pending.call.finish({ code: CODES.UNAVAILABLE, message: "no answer in time" });
    }
  }

  /** A call begins to arrive; throws when there is no room for it. */
  #arriving(call: MethodCall): AssemblyBounds {
    const { limits, events, clock, peerOf } = this.#parts;
    const { identity } = peerOf(call);
    const isStranger = events.isStranger(identity);
    const hasRoom = isStranger
      ? this.#strangerCount < limits.maxStrangerCalls
      : this.#byId.size - this.#strangerCount < limits.maxIncomingCalls;
    if (!hasRoom) throw new StatusError({ code: CODES.RESOURCE_EXHAUSTED, message: "too many calls" });
    const pending = { id: this.#nextCall, call, identity, isStranger, deadlineMs: clock.patientMs() + limits.answerTimeoutMs };
    this.#nextCall += 2;
    this.#byId.set(pending.id, pending);
    this.#byCall.set(call, pending);
    if (isStranger) this.#strangerCount += 1;
    call.onCancelled(() => this.#forget(pending));
    return isStranger ? this.#strangerBounds : this.#bounds;
  }

  #asked(kind: FabricCallRequest["kind"], bytes: Uint8Array, call: MethodCall): void {
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
    this.#parts.events.asked(pending.id, request, pending.identity);
  }

  #refused(kind: FabricCallRequest["kind"], error: WaymarkError, call: MethodCall): void {
    const pending = this.#byCall.get(call);
    if (pending === undefined) return;
    this.#forget(pending);
    if (error.reason === "deadline_exceeded") return call.fail(error);
    const { isStranger, identity } = pending;
    this.#parts.events.refused(isStranger ? `${kind} of a stranger: ${error.message}` : `${kind}: ${error.message}`, identity.address);
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
