/** `waymark.fabric.v1.FabricService` as a service of gRPC: the methods that other nodes call here. */
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

  /** What is open now. */
  counts(): { readonly links: number; readonly calls: number; readonly bufferedBytes: number } {
    const { size: links, bufferedBytes: linkBytes } = this.#links;
    const { size: calls, bufferedBytes: callBytes } = this.#calls;
    return { links, calls, bufferedBytes: linkBytes + callBytes };
  }

  /** Answers a call of another; undefined refuses it. A call that is gone or answered is passed over. */
  answer(call: CallId, response: FabricCallResponse | undefined, why?: string): void {
    this.#calls.answer(call, response, why);
  }

  /** Looks at its clocks, by stall-aware ms that are due; called about four times a second. */
  check(dueMs: number): void {
    this.#calls.check(dueMs);
    this.#links.check(dueMs);
  }

  /** Refuses calls and links from now on. */
  stop(): void {
    this.#isStopping = true;
    this.#links.stop();
  }

  #admitted(peer: CallingPeer): CallingPeer {
    if (this.#isStopping) throw new StatusError({ code: CODES.UNAVAILABLE, message: "stopping" });
    return peer;
  }
}
