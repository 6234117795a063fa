/** Who was heard when, and how long probes took, noted beside a fabric's machine. It decides nothing. */
import type { Fabric } from "../../fabric/fabric.ts";
import type { FabricInput, FabricOutput, LinkId } from "../../fabric/io-types.ts";
import { isListed } from "../../fabric/membership/members.ts";
import type { CallRequest } from "../../fabric/wire/messages.ts";
import type { Time } from "../../lib/machine.ts";
import type { Metrics } from "../../lib/metrics/metrics.ts";

/** Calls under way that are timed; more are not. */
const MAX_CALLS = 4096;

export class HeardPeers {
  readonly #fabric: Fabric;
  readonly #metrics: Metrics;
  /** Node id → wall ms; members only. */
  readonly #heard = new Map<string, number>();
  /** Of links that came up. */
  readonly #linkNodes = new Map<LinkId, string>();
  readonly #calls = new Map<number, { readonly kind: CallRequest["kind"]; readonly sentMonoMs: number }>();

  constructor(fabric: Fabric, metrics: Metrics) {
    this.#fabric = fabric;
    this.#metrics = metrics;
  }

  /** To be told of each input of the fabric, after it was handled, with what came out of it. */
  handled(input: FabricInput, outputs: readonly FabricOutput[], time: Time): void {
    this.#note(input, time);
    this.#noteAdmitted(input, outputs, time);
    for (const output of outputs) this.#noteOutput(output, time);
  }

  /** When this node last heard from a member itself. */
  heardWallMs(nodeId: string): number | undefined {
    return this.#heard.get(nodeId);
  }

  #note(input: FabricInput, time: Time): void {
    switch (input.kind) {
      case "answered":
        this.#answered(input, time);
        return;
      case "received":
        this.#hear(this.#linkNodes.get(input.link) ?? "", time);
        return;
      case "closed":
        this.#linkNodes.delete(input.link);
        return;
      case "tick":
      case "asked":
      case "opened":
      case "lagged":
      case "facts":
      case "policy":
      case "policyRead":
      case "policyRefused":
      case "leaving":
      case "offer":
      case "stop":
    }
  }

  /** Only when it was looked at is it known who says truly who it is: refused, it says so for nobody else. */
  #noteAdmitted(input: FabricInput, outputs: readonly FabricOutput[], time: Time): void {
    if (input.kind === "asked") {
      const { call, request } = input;
      const isRefused = outputs.some((output) => output.kind === "answer" && output.call === call && output.response === undefined);
      if (!isRefused) this.#hear(request.from.nodeId, time);
    } else if (input.kind === "received" && input.frame.kind === "hello") {
      const hello = this.#fabric.helloOf(input.link);
      if (hello === undefined) return;
      this.#linkNodes.set(input.link, hello.nodeId);
      this.#hear(hello.nodeId, time);
    }
  }

  #answered({ call, response }: Extract<FabricInput, { kind: "answered" }>, time: Time): void {
    const asked = this.#calls.get(call);
    this.#calls.delete(call);
    if (response === undefined || response.kind === "probeIndirect") return;
    this.#hear(response.from.nodeId, time);
    if (asked?.kind === "probe") this.#metrics.histogram("mesh_gossip_rtt_ms", {}).observe(time.monoMs - asked.sentMonoMs);
  }

  #noteOutput(output: FabricOutput, time: Time): void {
    switch (output.kind) {
      case "call":
        if (this.#calls.size < MAX_CALLS) this.#calls.set(output.call, { kind: output.request.kind, sentMonoMs: time.monoMs });
        return;
      case "memberChanged":
        if (!isListed(output.update.status)) this.#heard.delete(output.update.nodeId);
        return;
      case "memberForgotten":
        this.#heard.delete(output.nodeId);
        return;
      case "close":
        this.#linkNodes.delete(output.link);
        return;
      case "answer":
      case "open":
      case "send":
      case "changed":
      case "superseded":
      case "generationLost":
      case "offered":
      case "readPolicy":
      case "adoptPolicy":
      case "event":
    }
  }

  /** Strangers may call themselves anything: only members are remembered. */
  #hear(nodeId: string, { wallMs }: Time): void {
    const status = this.#fabric.membership.find(nodeId)?.status;
    if (status !== undefined && isListed(status)) this.#heard.set(nodeId, wallMs);
  }
}
