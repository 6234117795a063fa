/**
 * Records when each member last sent a message and how long probes took, from the inputs and outputs of the fabric. This file does not make any
 * decisions.
 */
import type { Fabric } from "../../fabric/fabric.ts";
import type { FabricInput, FabricOutput, LinkId } from "../../fabric/io-types.ts";
import { isListed } from "../../fabric/membership/members.ts";
import type { FabricCallRequest } from "../../fabric/wire/messages.ts";
import type { Time } from "../../lib/machine.ts";
import type { Metrics } from "../../lib/metrics/metrics.ts";

/** Maximum number of calls in flight whose duration is measured. Any further calls are not measured. */
const MAX_CALLS = 4096;

export class PeerActivity {
  readonly #fabric: Fabric;
  readonly #metrics: Metrics;
  /** Wall-clock time in ms by node id, for members only. */
  readonly #lastReceived = new Map<string, number>();
  /** The node at the other end of each link that is up. */
  readonly #linkNodes = new Map<LinkId, string>();
  readonly #calls = new Map<number, { readonly kind: FabricCallRequest["kind"]; readonly sentMonoMs: number }>();

  constructor(fabric: Fabric, metrics: Metrics) {
    this.#fabric = fabric;
    this.#metrics = metrics;
  }

  /** Must be called with each input of the fabric and its outputs, after the fabric has handled the input. */
  handled(input: FabricInput, outputs: readonly FabricOutput[], time: Time): void {
    if (input.kind === "answered") this.#answered(input, time);
    else if (input.kind === "received") this.#received(input, time);
    else if (input.kind === "closed") this.#linkNodes.delete(input.link);
    else if (input.kind === "asked") this.#asked(input, outputs, time);
    for (const output of outputs) this.#noteOutput(output, time);
  }

  /** Returns when this node last received a message directly from the member. */
  heardWallMs(nodeId: string): number | undefined {
    return this.#lastReceived.get(nodeId);
  }

  /** Notes the caller unless its call was refused. The identity of a caller is known only after the fabric has checked the call. */
  #asked({ call, request }: Extract<FabricInput, { kind: "asked" }>, outputs: readonly FabricOutput[], time: Time): void {
    const isRefused = outputs.some((output) => output.kind === "answer" && output.call === call && output.response === undefined);
    if (!isRefused) this.#note(request.from.nodeId, time);
  }

  /** Notes the node at the other end of a link. The node is known only after the fabric has accepted its hello message. */
  #received({ link, frame }: Extract<FabricInput, { kind: "received" }>, time: Time): void {
    const nodeId = frame.kind === "hello" ? this.#fabric.helloOf(link)?.nodeId : undefined;
    if (nodeId !== undefined) this.#linkNodes.set(link, nodeId);
    this.#note(this.#linkNodes.get(link) ?? "", time);
  }

  #answered({ call, response }: Extract<FabricInput, { kind: "answered" }>, time: Time): void {
    const sent = this.#calls.get(call);
    this.#calls.delete(call);
    if (response === undefined || response.kind === "probeIndirect") return;
    this.#note(response.from.nodeId, time);
    if (sent?.kind === "probe") this.#metrics.histogram("mesh_gossip_rtt_ms", {}).observe(time.monoMs - sent.sentMonoMs);
  }

  #noteOutput(output: FabricOutput, time: Time): void {
    if (output.kind === "call") {
      if (this.#calls.size < MAX_CALLS) this.#calls.set(output.call, { kind: output.request.kind, sentMonoMs: time.monoMs });
    } else if (output.kind === "close") this.#linkNodes.delete(output.link);
    else if (output.kind === "memberForgotten") this.#lastReceived.delete(output.nodeId);
    else if (output.kind === "memberChanged" && !isListed(output.update.status)) this.#lastReceived.delete(output.update.nodeId);
  }

  /** Only members are noted, because an unknown peer can use any name. */
  #note(nodeId: string, { wallMs }: Time): void {
    const status = this.#fabric.membership.find(nodeId)?.status;
    if (status !== undefined && isListed(status)) this.#lastReceived.set(nodeId, wallMs);
  }
}
