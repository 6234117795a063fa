/** When each member was heard last, and how long probes took: read off the inputs and outputs of the fabric. It decides nothing. */
import type { Fabric } from "../../fabric/fabric.ts";
import type { FabricInput, FabricOutput, LinkId } from "../../fabric/io-types.ts";
import { isListed } from "../../fabric/membership/members.ts";
import type { FabricCallRequest } from "../../fabric/wire/messages.ts";
import type { Time } from "../../lib/machine.ts";
import type { Metrics } from "../../lib/metrics/metrics.ts";

/** The most calls that are timed at once. Calls above it are not timed. */
const MAX_CALLS = 4096;

export class PeerActivity {
  readonly #fabric: Fabric;
  readonly #metrics: Metrics;
  /** Node id → wall ms; members only. */
  readonly #heard = new Map<string, number>();
  /** The node at the other end of each link that came up. */
  readonly #linkNodes = new Map<LinkId, string>();
  readonly #calls = new Map<number, { readonly kind: FabricCallRequest["kind"]; readonly sentMonoMs: number }>();

  constructor(fabric: Fabric, metrics: Metrics) {
    this.#fabric = fabric;
    this.#metrics = metrics;
  }

  /** To be called with each input of the fabric after the fabric has handled it, and with the outputs. */
  handled(input: FabricInput, outputs: readonly FabricOutput[], time: Time): void {
    if (input.kind === "answered") this.#answered(input, time);
    else if (input.kind === "received") this.#received(input, time);
    else if (input.kind === "closed") this.#linkNodes.delete(input.link);
    else if (input.kind === "asked") this.#asked(input, outputs, time);
    for (const output of outputs) this.#noteOutput(output, time);
  }

  /** When this node last heard from a member itself. */
  heardWallMs(nodeId: string): number | undefined {
    return this.#heard.get(nodeId);
  }

  /** A caller is known to be who it says only when the fabric has looked at its call: a refused one was not heard. */
  #asked({ call, request }: Extract<FabricInput, { kind: "asked" }>, outputs: readonly FabricOutput[], time: Time): void {
    const isRefused = outputs.some((output) => output.kind === "answer" && output.call === call && output.response === undefined);
    if (!isRefused) this.#hear(request.from.nodeId, time);
  }

  /** As for a call, the node of a link is known only once the fabric has taken its hello. */
  #received({ link, frame }: Extract<FabricInput, { kind: "received" }>, time: Time): void {
    const nodeId = frame.kind === "hello" ? this.#fabric.helloOf(link)?.nodeId : undefined;
    if (nodeId !== undefined) this.#linkNodes.set(link, nodeId);
    this.#hear(this.#linkNodes.get(link) ?? "", time);
  }

  #answered({ call, response }: Extract<FabricInput, { kind: "answered" }>, time: Time): void {
    const asked = this.#calls.get(call);
    this.#calls.delete(call);
    if (response === undefined || response.kind === "probeIndirect") return;
    this.#hear(response.from.nodeId, time);
    if (asked?.kind === "probe") this.#metrics.histogram("mesh_gossip_rtt_ms", {}).observe(time.monoMs - asked.sentMonoMs);
  }

  #noteOutput(output: FabricOutput, time: Time): void {
    if (output.kind === "call") {
      if (this.#calls.size < MAX_CALLS) this.#calls.set(output.call, { kind: output.request.kind, sentMonoMs: time.monoMs });
    } else if (output.kind === "close") this.#linkNodes.delete(output.link);
    else if (output.kind === "memberForgotten") this.#heard.delete(output.nodeId);
    else if (output.kind === "memberChanged" && !isListed(output.update.status)) this.#heard.delete(output.update.nodeId);
  }

  /** Only members are remembered, because a stranger may use any name. */
  #hear(nodeId: string, { wallMs }: Time): void {
    const status = this.#fabric.membership.find(nodeId)?.status;
    if (status !== undefined && isListed(status)) this.#heard.set(nodeId, wallMs);
  }
}
