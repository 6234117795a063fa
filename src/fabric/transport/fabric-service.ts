/** `waymark.fabric.v1.FabricService` as a gRPC service: the methods that other nodes call on this node. */
import type { GrpcMethod, MethodCall } from "../../grpc/server/method.ts";
import { StatusError } from "../../grpc/wire/status.ts";
import { CODES } from "../../lib/errors.ts";
import type { CallId } from "../io-types.ts";
import type { FabricCallRequest, FabricCallResponse } from "../wire/messages.ts";
import { type IncomingCallEvents, IncomingCalls } from "./incoming-calls.ts";
import { type IncomingLinkEvents, IncomingLinks } from "./incoming-links.ts";
import type { CallingPeer, ServiceParts } from "./link-stream.ts";

export type FabricServiceParts = ServiceParts<IncomingCallEvents & IncomingLinkEvents>;

export class FabricService {
  readonly methods: readonly GrpcMethod[];
  readonly #calls: IncomingCalls;
  readonly #links: IncomingLinks;
  #isStopping = false;

  constructor(parts: FabricServiceParts) {
    const fromPeer = { ...parts, peerOf: (call: MethodCall) => this.#admitted(parts.peerOf(call)) };
    this.#calls = new IncomingCalls(fromPeer);
    this.#links = new IncomingLinks(fromPeer);
    const kinds = ["probe", "probeIndirect", "pushPull", "maintain"] as const satisfies readonly FabricCallRequest["kind"][];
    this.methods = [...kinds.map((kind) => this.#calls.method(kind)), this.#links.method];
  }

  /** Number of open links, calls, and buffered bytes. */
  counts(): { readonly links: number; readonly calls: number; readonly bufferedBytes: number } {
    const { size: links, bufferedBytes: linkBytes } = this.#links;
    const { size: calls, bufferedBytes: callBytes } = this.#calls;
    return { links, calls, bufferedBytes: linkBytes + callBytes };
  }

  /** Answers a call, or refuses it if `response` is undefined. Ignores a call that has ended or has been answered before. */
  answer(call: CallId, response: FabricCallResponse | undefined, why?: string): void {
    this.#calls.answer(call, response, why);
  }

  /** Checks timeouts, using the stall-aware clock. Called about four times per second. */
  check(dueMs: number): void {
    this.#calls.check(dueMs);
    this.#links.check(dueMs);
  }

  /** Starts refusing new calls and links. */
  stop(): void {
    this.#isStopping = true;
    this.#links.stop();
  }

  #admitted(peer: CallingPeer): CallingPeer {
    if (this.#isStopping) throw new StatusError({ code: CODES.UNAVAILABLE, message: "the node is stopping" });
    return peer;
  }
}
